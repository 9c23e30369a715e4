//! How messages go into gRPC's frames and out of them: as `tonic_prost` does it, with buffers of the messages' size.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// What a message is given room for at first, in bytes: a credential and what is stored of it are smaller. Four calls
/// are under way for each credential, and tonic's own 8 KB for each are memory that is never written to.
const INITIAL_BUFFER_BYTES: usize = 1024;
/// Messages of a stream are sent together up to this size, in bytes: tonic's own.
const YIELD_THRESHOLD_BYTES: usize = 32 * 1024;

/// The codec of every service, which `build.rs` names to the generated code.
#[derive(Debug)]
pub struct MessageCodec<Sent, Received>(PhantomData<(Sent, Received)>);

impl<Sent, Received> Default for MessageCodec<Sent, Received> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Sent, Received> Codec for MessageCodec<Sent, Received>
where
    Sent: Message + 'static,
    Received: Message + Default + 'static,
{
    type Encode = Sent;
    type Decode = Received;
    type Encoder = ProstEncoder<Sent>;
    type Decoder = ProstDecoder<Received>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(INITIAL_BUFFER_BYTES, YIELD_THRESHOLD_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(INITIAL_BUFFER_BYTES, YIELD_THRESHOLD_BYTES))
    }
}

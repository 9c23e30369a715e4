//! The codec for messages in gRPC frames: the codec of `tonic_prost` with smaller buffers.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// The initial buffer of a message, in bytes. A credential and its records are smaller. Each credential needs four
/// calls, so tonic's default of 8 KB per buffer would waste memory.
const INITIAL_BUFFER_BYTES: usize = 1024;
/// The size up to which messages of a stream are sent together, in bytes. This is tonic's default.
const YIELD_THRESHOLD_BYTES: usize = 32 * 1024;

/// The codec of every service. `build.rs` passes the path of this type to the code generator.
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

//! Every test that needs more than one file of ours: the engine over in-memory storage, real hosts, the house rules.

"""Many callers, one device: a fair queue, one thread that computes, batches, deadlines, cancellation."""

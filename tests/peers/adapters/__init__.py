"""One module per way of taking a step. Each has `make(params, gradients, **options)`, which gives a Stepper."""

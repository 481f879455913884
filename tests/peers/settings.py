"""What all contenders have in common."""

PERIOD = 10  # steps between refreshes
BETA1 = 0.95
BETA2 = 0.95
EPSILON = 1e-8
WEIGHT_DECAY = 0.01
LEARNING_RATE = 1e-3
MAX_DIM = 8192  # longer than any dim here: every dim gets a full factor

WARMUP = 2  # untimed steps; the first one of all these methods is different from the others
POOL = 5  # gradients per tensor, used in turn
GRADIENT_SCALE = 1e-2
PARAMETER_SCALE = 2e-2

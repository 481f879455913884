// All kernels, as the emulator sees them.
#include "klshampoo.cu"

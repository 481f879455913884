/* MKL, which multiplies torch's matrices, asks this function of its own whether the processor is Intel's; if not, it leaves out its AVX-512
 * kernels. Preloaded, this answer comes first: peers then multiply as fast as they would on an Intel processor of the same kind. */
int mkl_serv_intel_cpu_true(void);

int mkl_serv_intel_cpu_true(void) { return 1; }

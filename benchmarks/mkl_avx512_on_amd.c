/* Preloaded into torch: MKL then uses its AVX-512 kernels on AMD processors too. */
int mkl_serv_intel_cpu_true(void) { return 1; }
int mkl_serv_intel_cpu(void) { return 1; }

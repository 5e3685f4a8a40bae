TORCH_VERSION: str
CUDA_ARCHS: str  # as in TORCH_CUDA_ARCH_LIST; empty: built without CUDA

/*
 * tck_tell: tells others that everything before it on its stream is over, for operations whose last kernel is not one of ours. One thread,
 * which goes on when the kernel before it is complete and its results are visible: sooner than the stream itself could write a word.
 */
#include "signal.cuh"

extern "C" __global__ void __launch_bounds__(1) tck_tell(const __grid_constant__ struct tck_cuda_signal signal)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
    tck_signal_write(signal);
}

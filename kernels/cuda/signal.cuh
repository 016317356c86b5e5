/*
 * The end of a launch, told to others: the last block to come here writes up to two words, in memory of anybody that this GPU reaches.
 * Whoever sees them sees all that the launch has written. A stream's own write behind a kernel says the same 1 to 5 us later: it waits
 * until the kernel is gone, and the GPU's front end changes channels for it.
 *
 * Results lie in memory of this GPU, and so are in its L2 before their block is counted: what is in front of the first word is a fence for
 * the GPU alone. One for the whole machine takes a microsecond more, and would only matter to results elsewhere; what a failing block says
 * to the host has its own (tck_fail). The second word is released to everybody, and so is the record with it.
 *
 * The count of blocks is in the own rank's workspace, and 0 between launches, which the stream orders.
 */
#ifndef TCK_CUDA_SIGNAL_CUH
#define TCK_CUDA_SIGNAL_CUH

#include "state.cuh"

/* The words themselves. One thread, behind what they are about. */
TCK_DEVICE void tck_signal_write(const struct tck_cuda_signal &signal)
{
    if (signal.first_is_narrow)
        asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(signal.first), "r"((uint32_t)signal.first_value) : "memory");
    else
        asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(signal.first), "l"(signal.first_value) : "memory");
    if (signal.second)
        asm volatile("st.release.sys.global.u64 [%0], %1;" ::"l"(signal.second), "l"(signal.second_value) : "memory");
}

/* Every thread, last of all. */
TCK_DEVICE void tck_signal(const struct tck_cuda_args &args)
{
    const struct tck_cuda_signal &signal = args.signal;
    if (!signal.first || !(args.run.flags & TCK_CUDA_LAST))
        return;
    __syncthreads(); /* the fence below is for what all threads have written */
    if (threadIdx.x != 0)
        return;
    uint32_t *finished = &tck_state(args.link, args.link.rank)->finished;
    __threadfence();
    if (gridDim.x > 1) {
        if (atomicAdd(finished, 1u) != gridDim.x - 1)
            return;
        *(volatile uint32_t *)finished = 0;
    }
    tck_signal_write(signal);
}

#endif

#include "twins.h"

#include "cuda/args.h"

CUresult fake_twin_signal(const struct fake_launch *launch, const struct tck_cuda_signal *signal)
{
    const size_t bytes = signal->first_is_narrow ? sizeof(uint32_t) : sizeof(uint64_t);
    CUresult result = CUDA_SUCCESS;
    if (!signal->first)
        return CUDA_SUCCESS;
    result = fake_memory_touch(launch->context, launch->name, signal->first, bytes, true, false);
    if (!result && signal->second)
        result = fake_memory_touch(launch->context, launch->name, signal->second, sizeof(uint64_t), true, false);
    if (result)
        return result;
    if (signal->first_is_narrow)
        __atomic_store_n((uint32_t *)signal->first, (uint32_t)signal->first_value, __ATOMIC_RELEASE);
    else
        __atomic_store_n((uint64_t *)signal->first, signal->first_value, __ATOMIC_RELEASE);
    if (signal->second)
        __atomic_store_n(signal->second, signal->second_value, __ATOMIC_RELEASE);
    return CUDA_SUCCESS;
}

CUresult fake_twin_tell(const struct fake_launch *launch)
{
    return fake_twin_signal(launch, launch->params);
}

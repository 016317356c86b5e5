#include "words.h"

#include <tcw/types.h>

#include <stddef.h>

int tcd_cuda_words_open(struct tcd_cuda_words *words, struct tck_device *device, const struct tcw_ring *ring)
{
    uint64_t bytes = ring->bytes - (uint64_t)((unsigned char *)ring->words - ring->base);
    int rc = tck_cuda_register_host(device, ring->words, bytes, &words->address);
    if (rc < 0)
        return rc;
    words->captured = words->address + (uint64_t)((unsigned char *)ring->captured - (unsigned char *)ring->words);
    words->device = device;
    words->pairs = ring->words;
    return 0;
}

void tcd_cuda_words_close(struct tcd_cuda_words *words)
{
    if (words->pairs)
        tck_cuda_unregister_host(words->device, words->pairs);
    words->pairs = NULL;
}

static CUdeviceptr address_of(const struct tcd_cuda_words *words, uint32_t pair, size_t offset)
{
    return words->address + pair * sizeof(struct tcw_words) + offset;
}

CUresult tcd_cuda_words_await_ready(const struct tcd_cuda_words *words, uint32_t pair, uint64_t number, CUstream stream)
{
    return tck_cuda_driver()->cuStreamWaitValue64(stream, address_of(words, pair, offsetof(struct tcw_words, ready)), number,
                                                  CU_STREAM_WAIT_VALUE_GEQ);
}

struct tck_cuda_end tcd_cuda_words_done(const struct tcd_cuda_words *words, uint32_t pair, uint64_t number, CUdeviceptr ended,
                                        uint64_t ticket)
{
    return (struct tck_cuda_end){
        .first = address_of(words, pair, offsetof(struct tcw_words, done)), .first_value = number, .second = ended, .second_value = ticket};
}

struct tck_cuda_end tcd_cuda_words_replayed(const struct tcd_cuda_words *words, uint32_t index, CUdeviceptr ended, uint64_t ticket)
{
    return (struct tck_cuda_end){.first = words->captured + index * sizeof(struct tcw_captured) + offsetof(struct tcw_captured, turn),
                                 .first_value = TCW_TURN_CLIENT,
                                 .first_is_narrow = true,
                                 .second = ended,
                                 .second_value = ticket};
}

bool tcd_cuda_words_is_ready(const struct tcd_cuda_words *words, uint32_t pair, uint64_t number)
{
    return atomic_load_explicit(&words->pairs[pair].ready, memory_order_acquire) >= number;
}

void tcd_cuda_words_raise_ready(const struct tcd_cuda_words *words, uint32_t pair, uint64_t number)
{
    if (!tcd_cuda_words_is_ready(words, pair, number))
        atomic_store_explicit(&words->pairs[pair].ready, number, memory_order_release);
}

void tcd_cuda_words_raise_done(const struct tcd_cuda_words *words, uint32_t pair, uint64_t number)
{
    if (atomic_load_explicit(&words->pairs[pair].done, memory_order_relaxed) < number)
        atomic_store_explicit(&words->pairs[pair].done, number, memory_order_release);
}

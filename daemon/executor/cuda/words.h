/*
 * The words of a ring, as the stream of an executor waits for them and its kernels write them: see struct tcw_words. They lie in the ring's
 * memory, registered with CUDA.
 *
 * That memory is the client's too, so nothing here decides on anything of ours: that an operation has ended is also written to a word of
 * our own (`ended`), which no client can reach.
 *
 * Both sides wait by streams, never by kernels that look at a word, though these would save 1 to 3 us of a request's 10 to 13 (H200, MPS,
 * tests/gpu/results/words-h200.txt). A client killed while such a kernel of its runs takes all other processes on the GPU with it (MPS,
 * illegal memory access, at the first or second kill), also when the word is raised 20 ms later; 20 kills while a stream waited, for a word
 * in host or in device memory, and 20 while an ordinary kernel ran, hurt nobody. And a kernel of ours that waits for a client holds a place
 * on a multiprocessor that a cooperative kernel of this client may need first.
 *
 * Words in device memory would gain 2 us. But what waits for them can be released through CUDA alone, which the control process has not.
 *
 * Lives in an executor process, part of a lane; opened by the main thread, used and closed by the worker.
 */
#ifndef TCD_CUDA_WORDS_H
#define TCD_CUDA_WORDS_H

#include <tck/cuda_comm.h>
#include <tcw/ring.h>

struct tcd_cuda_words {
    struct tck_device *device;
    struct tcw_words *pairs; /* NULL: not open */
    CUdeviceptr address;
    CUdeviceptr captured; /* the first of struct tcw_captured */
};

/* Registers the words of a ring that has some. 0 or a code. */
int tcd_cuda_words_open(struct tcd_cuda_words *words, struct tck_device *device, const struct tcw_ring *ring);
void tcd_cuda_words_close(struct tcd_cuda_words *words);

/* The stream waits until the inputs of request `number` are there. */
CUresult tcd_cuda_words_await_ready(const struct tcd_cuda_words *words, uint32_t pair, uint64_t number, CUstream stream);
/*
 * That the outputs are there, said first to the client, then to us: *ended becomes `ticket`. For a request of the ring or a captured one.
 * A kernel says it: the operation's own where it can, else one behind it.
 */
struct tck_cuda_end tcd_cuda_words_done(const struct tcd_cuda_words *words, uint32_t pair, uint64_t number, CUdeviceptr ended,
                                        uint64_t ticket);
struct tck_cuda_end tcd_cuda_words_replayed(const struct tcd_cuda_words *words, uint32_t index, CUdeviceptr ended, uint64_t ticket);

/* By plain stores: for requests that are given up. */
bool tcd_cuda_words_is_ready(const struct tcd_cuda_words *words, uint32_t pair, uint64_t number);
void tcd_cuda_words_raise_ready(const struct tcd_cuda_words *words, uint32_t pair, uint64_t number);
void tcd_cuda_words_raise_done(const struct tcd_cuda_words *words, uint32_t pair, uint64_t number);

#endif

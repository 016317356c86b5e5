/* Deadlines on CLOCK_MONOTONIC: absolute nanoseconds, TCC_FOREVER for none. Pure functions. */
#ifndef TCC_CLOCK_H
#define TCC_CLOCK_H

#include <tcw/member.h>

#include <pthread.h>
#include <stdint.h>

#define TCC_FOREVER UINT64_MAX
#define TCC_MS      1000000ull

static inline uint64_t tcc_deadline_after(uint64_t now_ns, uint64_t ms)
{
    return now_ns + ms * TCC_MS;
}

/* Milliseconds until then for poll(2), rounded up, at most `most`. */
int tcc_deadline_left_ms(uint64_t deadline_ns, int most);

/* A condition variable that waits on CLOCK_MONOTONIC. */
int tcc_cond_create(pthread_cond_t *cond);
/* Waits until signalled or the absolute time; spurious returns are the caller's to expect. */
void tcc_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t deadline_ns);

#endif

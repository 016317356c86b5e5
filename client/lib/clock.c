#include "clock.h"

#include <time.h>

int tcc_deadline_left_ms(uint64_t deadline_ns, int most)
{
    uint64_t now = tcw_now_ns(), left;

    if (deadline_ns <= now)
        return 0;
    left = (deadline_ns - now + TCC_MS - 1) / TCC_MS;
    return left > (uint64_t)most ? most : (int)left;
}

int tcc_cond_create(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    int code = pthread_condattr_init(&attributes);

    if (code)
        return code;
    code = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (!code)
        code = pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
    return code;
}

void tcc_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t deadline_ns)
{
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000ull), .tv_nsec = (long)(deadline_ns % 1000000000ull)};

    pthread_cond_timedwait(cond, mutex, &until);
}

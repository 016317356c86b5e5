/*
 * Wakes those who wait on an eventfd that a client shares, and never waits itself. A plain write is out of the question: a client can make
 * the eventfd blocking and fill it, and whoever writes then stands still for ever. So the write is left to the kernel: a request of its
 * asynchronous I/O adds to an eventfd when it completes, whatever the counter and the flags say.
 * Stands inside the daemon. Loop thread.
 */
#ifndef TCD_CONTROL_WAKER_H
#define TCD_CONTROL_WAKER_H

#include <linux/aio_abi.h>

struct tcd_waker {
    aio_context_t context; /* 0: the kernel has none for us, and nobody is woken */
    int nothing;           /* what the requests read: it has no bytes */
};

/* 0, or TCW_ENOSYS: then tcd_waker_wake does nothing, and sleepers see by their own short naps what there is to see. */
int tcd_waker_open(struct tcd_waker *waker);
void tcd_waker_close(struct tcd_waker *waker);

/* Makes the eventfd readable. */
void tcd_waker_wake(struct tcd_waker *waker, int eventfd);

#endif

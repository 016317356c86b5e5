#include "waker.h"

#include <tcw/types.h>

#include <fcntl.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int tcd_waker_open(struct tcd_waker *waker)
{
    *waker = (struct tcd_waker){.nothing = open("/dev/null", O_RDONLY | O_CLOEXEC)};
    if (waker->nothing >= 0 && syscall(SYS_io_setup, 1, &waker->context) == 0)
        return 0;
    waker->context = 0;
    tcd_waker_close(waker);
    return TCW_ENOSYS;
}

void tcd_waker_close(struct tcd_waker *waker)
{
    if (waker->context)
        syscall(SYS_io_destroy, waker->context);
    if (waker->nothing >= 0)
        close(waker->nothing);
    *waker = (struct tcd_waker){.nothing = -1};
}

void tcd_waker_wake(struct tcd_waker *waker, int eventfd)
{
    const struct timespec at_once = {0};
    struct io_event completion;
    unsigned char byte = 0;
    struct iocb request = {.aio_lio_opcode = IOCB_CMD_PREAD,
                           .aio_fildes = (uint32_t)waker->nothing,
                           .aio_buf = (uintptr_t)&byte,
                           .aio_nbytes = sizeof(byte),
                           .aio_flags = IOCB_FLAG_RESFD,
                           .aio_resfd = (uint32_t)eventfd};
    struct iocb *requests[1] = {&request};

    if (!waker->context || eventfd < 0)
        return;
    /* Reading nothing completes inside the call. Its completion is taken up, or the queue would be full. */
    syscall(SYS_io_submit, waker->context, 1L, requests);
    syscall(SYS_io_getevents, waker->context, 0L, 1L, &completion, &at_once);
}

#include "main.h"

#include "service.h"

#include <tcw/member.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    NUDGE_MS = 5,   /* how often workers that are to end are reminded */
    LAST_MS = 1000, /* without a control process: the longest that an orderly end may take */
};
enum { EXIT_DEVICE = 3 };                     /* the device failed */
enum { LIFELINE = 4, LIFELINE_MOVED = 1000 }; /* above what drivers open */

static void on_nudge(int number)
{
    (void)number;
}

/* What the parent ignored or blocked means nothing here. SIGUSR1 interrupts a worker's system call and does nothing else. */
static void reset_signals(void)
{
    struct sigaction now;
    for (int number = 1; number < NSIG; ++number)
        if (sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_IGN)
            signal(number, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    struct sigaction nudge = {.sa_handler = on_nudge}; /* no SA_RESTART */
    sigaction(SIGUSR1, &nudge, NULL);
    /* These reach whole process groups. How clients are let down is the control process's decision: it tells us, or hangs up. */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * A pipe that is held to the end of the process and used for nothing: the parent sees it hang up. Kernels close what a dying process has
 * from the highest descriptor down (since 4.3), and drivers of GPUs take hundreds of milliseconds for theirs, so this one stands above
 * them. Where that does not hold the parent hears of the death when all is closed. -1: there is none.
 */
static int hold_lifeline(void)
{
    struct stat status;
    int moved;
    if (fstat(LIFELINE, &status) < 0 || !S_ISFIFO(status.st_mode))
        return -1;
    moved = fcntl(LIFELINE, F_DUPFD_CLOEXEC, LIFELINE_MOVED);
    if (moved >= 0)
        return moved;
    fcntl(LIFELINE, F_SETFD, FD_CLOEXEC); /* the limit is lower */
    return LIFELINE;
}

/* Only the socket, the lifeline and the standard descriptors stay: nothing of the parent is kept alive or reachable by accident. */
static int take_socket(int socket, int lifeline)
{
    unsigned first;
    if (socket != STDERR_FILENO + 1) {
        if (dup2(socket, STDERR_FILENO + 1) < 0)
            return -1;
        socket = STDERR_FILENO + 1;
    }
    fcntl(socket, F_SETFD, FD_CLOEXEC);
    first = (unsigned)socket + 1;
    if (lifeline > socket) {
        if (lifeline > socket + 1)
            syscall(SYS_close_range, first, (unsigned)lifeline - 1, 0u);
        first = (unsigned)lifeline + 1;
    }
    syscall(SYS_close_range, first, ~0u, 0u);
    return socket;
}

/* Receives and handles everything that has arrived. False: the control process is gone. */
static bool take_messages(struct tcd_ex_service *service, int socket)
{
    while (!service->quitting) {
        struct tcd_ex_message message;
        int fds[TCW_MAX_FDS];
        unsigned fd_count;
        int got = tcd_ex_receive(socket, &message, fds, &fd_count);
        if (got == 0)
            return true;
        if (got < 0)
            return false;
        tcd_ex_service_handle(service, &message, fds, fd_count);
        for (unsigned i = 0; i < fd_count; ++i)
            if (fds[i] >= 0)
                close(fds[i]);
    }
    return true;
}

/* The first message: what there is, or why there is nothing. */
static bool say_ready(int socket, int code, const struct tcd_ex_facts *facts, const char *text)
{
    struct tcd_ex_message ready = {.opcode = TCD_EX_READY, .code = code, .value = (uint64_t)getpid(), .facts = *facts};
    snprintf(ready.text, sizeof ready.text, "%s", text);
    return tcd_ex_send(socket, &ready, NULL, 0) == 0;
}

/* Until the control process says quit, or is gone: then whether it still listens. */
static bool serve(struct tcd_ex_service *service, int socket)
{
    for (;;) {
        int sent = tcd_ex_mailbox_send(&service->mailbox, socket);
        bool again = sent == TCW_EBUSY;
        if (sent < 0 && !again)
            return false;
        if (sent == 1 && atomic_load(&service->mailbox.fatal))
            _exit(EXIT_DEVICE); /* its letter is on the way; what the device holds ends with the process */
        if (service->quitting && tcd_ex_service_idle(service))
            return true;
        struct pollfd watched[2] = {
            {.fd = service->quitting ? -1 : socket, .events = (short)(POLLIN | (sent ? 0 : POLLOUT))},
            {.fd = service->mailbox.event, .events = POLLIN},
        };
        int ready = poll(watched, 2, service->leaving || service->quitting || again ? NUDGE_MS : -1);
        if (ready < 0 && errno != EINTR)
            return false;
        if (ready == 0)
            tcd_ex_service_nudge(service);
        tcd_ex_mailbox_quiet(&service->mailbox);
        if (!take_messages(service, socket))
            return false;
        tcd_ex_service_sweep(service);
    }
}

/* Ends all workers; false if one of them does not want to. */
static bool wind_down(struct tcd_ex_service *service)
{
    uint64_t until = tcw_now_ns() + LAST_MS * 1000000ull;
    service->quitting = true;
    tcd_ex_service_stop_all(service);
    while (!tcd_ex_service_idle(service)) {
        if (tcw_now_ns() > until)
            return false;
        struct pollfd watched = {.fd = service->mailbox.event, .events = POLLIN};
        if (poll(&watched, 1, NUDGE_MS) == 0)
            tcd_ex_service_nudge(service);
        tcd_ex_mailbox_quiet(&service->mailbox);
        tcd_ex_service_sweep(service);
    }
    return true;
}

int tcd_executor_main(unsigned device, const char *cuda, int socket)
{
    struct tcd_ex_service service;
    struct tcd_ex_facts facts = {.library = 0};
    struct tcd_ex_engine *engine = tcd_ex_host_engine();
    char text[TCW_TEXT_BYTES] = "";
    int code = 0;
    char name[16];
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a parent that is gone already shows as a hang-up of the socket */
    reset_signals();
    socket = take_socket(socket, hold_lifeline());
    if (socket < 0)
        return 1;
    snprintf(name, sizeof name, "trtcoll-exec-%u", device % 100);
    prctl(PR_SET_NAME, name);
    if (cuda)
        code = tcd_ex_cuda_engine(cuda, &engine, &facts, text);
    if (!say_ready(socket, code, &facts, text) || code < 0)
        return 1;
    if (tcd_ex_service_open(&service, engine) < 0)
        return 1;
    if (!serve(&service, socket) && !wind_down(&service))
        _exit(1); /* its threads are still at work on what cannot be unmapped then */
    tcd_ex_service_close(&service);
    close(socket);
    return 0;
}

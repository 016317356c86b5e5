#include "watcher.h"

#include "context.h"
#include "error.h"
#include "group.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    BUSY_MS = 10,   /* between two looks while requests are in flight */
    IDLE_MS = 1000, /* else; the daemon's announcements wake it at once */
};

struct tcc_watcher {
    pthread_t thread;
    int stop; /* eventfd */
};

static void *watch(void *arg)
{
    struct trtcoll_ctx *ctx = arg;
    struct pollfd news[2] = {{.fd = ctx->watcher->stop, .events = POLLIN}, {.fd = ctx->rpc.socket, .events = POLLIN}};
    bool busy = false;

    for (;;) {
        if (tcc_rpc_gone(&ctx->rpc))
            news[1].fd = -1; /* readable for ever */
        poll(news, 2, busy ? BUSY_MS : IDLE_MS);
        if (news[0].revents)
            return NULL;
        tcc_rpc_pump(&ctx->rpc);
        busy = tcc_groups_watch(ctx);
    }
}

int tcc_watcher_start(struct trtcoll_ctx *ctx)
{
    struct tcc_watcher *watcher = tcc_alloc(ctx, sizeof(*watcher));
    sigset_t all, before;
    int failed;

    if (!watcher)
        return tcc_fail_code(TRTCOLL_ENOMEM, "watcher");
    watcher->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (watcher->stop < 0) {
        tcc_free(ctx, watcher);
        return tcc_fail_code(TRTCOLL_EIO, "watcher");
    }
    ctx->watcher = watcher;
    /* Signals are the application's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&watcher->thread, NULL, watch, ctx);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failed)
        return 0;
    ctx->watcher = NULL;
    close(watcher->stop);
    tcc_free(ctx, watcher);
    return tcc_fail_code(TRTCOLL_ENOMEM, "watcher");
}

void tcc_watcher_stop(struct trtcoll_ctx *ctx)
{
    struct tcc_watcher *watcher = ctx->watcher;

    if (!watcher)
        return;
    if (!tcc_forked(ctx)) {
        eventfd_write(watcher->stop, 1);
        pthread_join(watcher->thread, NULL);
    }
    close(watcher->stop);
    tcc_free(ctx, watcher);
    ctx->watcher = NULL;
}

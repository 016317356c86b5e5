#include "listener.h"

#include "client.h"
#include "daemon.h"
#include "notify.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 256, ACCEPTS_PER_TURN = 32, PAUSE_MS = 100 };

static void on_poll(uv_poll_t *poll, int status, int events);

static void on_pause(void *arg)
{
    struct tcd_listener *listener = arg;

    uv_poll_start(&listener->poll, UV_READABLE, on_poll);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct tcd_listener *listener = poll->data;
    int i;

    (void)status;
    (void)events;
    for (i = 0; i < ACCEPTS_PER_TURN; i++) {
        int socket = accept4(listener->socket, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (socket >= 0) {
            tcd_client_accept(listener->daemon, socket);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            /* Out of descriptors or memory: the queue stays readable, so look away for a moment instead of spinning. */
            tcd_daemon_problem(listener->daemon, "a connection cannot be accepted: %s", strerror(errno));
            uv_poll_stop(&listener->poll);
            tcd_alarm_set(&listener->pause, &listener->daemon->clock, PAUSE_MS, on_pause, listener);
        }
        return;
    }
}

static int fail(const struct tcd_listener *listener, const char *what)
{
    tcd_log(TCD_ERR, "%s: %s: %s", listener->path, what, strerror(errno));
    return TCW_EIO;
}

static int set_group(const struct tcd_listener *listener, const char *name)
{
    struct group *group;

    if (!*name)
        return 0;
    errno = 0;
    group = getgrnam(name);
    if (!group) {
        tcd_log(TCD_ERR, "socket_group: there is no group '%s'", name);
        return TCW_EINVAL;
    }
    if (chown(listener->path, (uid_t)-1, group->gr_gid))
        return fail(listener, "socket_group");
    return 0;
}

static int make_socket(struct tcd_listener *listener)
{
    const struct tcf_options *options = &listener->daemon->config->options;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    mode_t before;
    int bound;

    if (strlen(listener->daemon->runtime.socket_path) >= sizeof(address.sun_path)) {
        tcd_log(TCD_ERR, "%s: a socket's path has at most %zu bytes", listener->daemon->runtime.socket_path, sizeof(address.sun_path) - 1);
        return TCW_EINVAL;
    }
    memcpy(listener->path, listener->daemon->runtime.socket_path, strlen(listener->daemon->runtime.socket_path) + 1);
    memcpy(address.sun_path, listener->path, sizeof(listener->path));
    listener->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener->socket < 0)
        return fail(listener, "socket");
    /* The lock says that no other daemon is alive: a file here is a dead one's. Nobody may connect before mode and group are right. */
    unlink(listener->path);
    before = umask(0777);
    bound = bind(listener->socket, (struct sockaddr *)&address, sizeof(address));
    umask(before);
    if (bound)
        return fail(listener, "bind");
    if (set_group(listener, options->socket_group))
        return TCW_EINVAL;
    if (chmod(listener->path, (mode_t)options->socket_mode))
        return fail(listener, "socket_mode");
    if (listen(listener->socket, BACKLOG))
        return fail(listener, "listen");
    return 0;
}

int tcd_listener_open(struct tcd_listener *listener, struct tcd_daemon *daemon)
{
    int code = 0;

    *listener = (struct tcd_listener){.daemon = daemon, .socket = tcd_notify_socket()};
    listener->inherited = listener->socket >= 0;
    if (!listener->inherited)
        code = make_socket(listener);
    if (!code && uv_poll_init(&daemon->loop, &listener->poll, listener->socket))
        code = TCW_EIO;
    if (code) {
        if (listener->socket >= 0)
            close(listener->socket);
        listener->socket = -1;
        return code;
    }
    listener->poll.data = listener;
    uv_poll_start(&listener->poll, UV_READABLE, on_poll);
    tcd_log(TCD_INFO, "listening on %s", listener->inherited ? "the socket from systemd" : listener->path);
    return 0;
}

void tcd_listener_close(struct tcd_listener *listener)
{
    if (listener->socket < 0)
        return;
    tcd_alarm_stop(&listener->pause);
    uv_close((uv_handle_t *)&listener->poll, NULL);
    if (!listener->inherited)
        unlink(listener->path);
    close(listener->socket);
    listener->socket = -1;
}

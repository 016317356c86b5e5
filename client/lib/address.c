#include "address.h"

#include "clock.h"
#include "error.h"

#include <tcw/places.h>

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static bool address_set(struct sockaddr_un *address, const char *folder, const char *name)
{
    int length = snprintf(address->sun_path, sizeof(address->sun_path), "%s%s", folder, name);

    address->sun_family = AF_UNIX;
    return length > 0 && (size_t)length < sizeof(address->sun_path);
}

static bool peer_trusted(int fd)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);

    return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) && (peer.uid == 0 || peer.uid == geteuid());
}

/* Returns the socket or a negative errno. `shared`: see tcw_place. */
static int connect_address(const struct sockaddr_un *address, bool shared, uint64_t deadline_ns)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int code;

    if (fd < 0)
        return -errno;
    /* EAGAIN: the queue of connections is full; the daemon is busy accepting, and there is nothing to poll for. */
    while (connect(fd, (const struct sockaddr *)address, sizeof(*address))) {
        code = errno;
        if (code == EINTR || (code == EAGAIN && tcc_deadline_left_ms(deadline_ns, 1))) {
            poll(NULL, 0, 1);
            continue;
        }
        close(fd);
        return code == EAGAIN ? -ETIMEDOUT : -code;
    }
    if (shared && !peer_trusted(fd)) {
        close(fd);
        return -EACCES;
    }
    return fd;
}

static int connect_failed(int number, const char *path)
{
    switch (number) {
    case EACCES:
    case EPERM:
        return tcc_fail(TRTCOLL_EPERM, "not permitted to connect to trtcolld at %s", path);
    case ETIMEDOUT:
        return tcc_fail(TRTCOLL_ETIMEOUT, "trtcolld at %s accepts no connection", path);
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
        return tcc_fail(TRTCOLL_EIO, "no socket for trtcolld: %s", strerrordesc_np(number));
    case ENOMEM:
        return tcc_fail(TRTCOLL_ENOMEM, "no memory for a socket");
    default:
        return tcc_fail(TRTCOLL_ECONN, "no trtcolld listens at %s (%s)", path, strerrordesc_np(number));
    }
}

int tcc_address_connect(const char *path, uint64_t deadline_ns)
{
    struct tcw_place places[TCW_MAX_PLACES];
    struct sockaddr_un address = {0};
    char tried[TCW_MAX_PLACES * (sizeof(address.sun_path) + 2)] = "";
    unsigned count, i;
    int fd = -ENOENT;

    if (!path)
        path = getenv("TRTCOLL_SOCKET");
    if (path && path[0]) {
        if (!address_set(&address, path, ""))
            return tcc_fail(TRTCOLL_EINVAL, "socket_path is %zu bytes long, at most %zu are possible", strlen(path),
                            sizeof(address.sun_path) - 1);
        fd = connect_address(&address, false, deadline_ns);
        return fd >= 0 ? fd : connect_failed(-fd, address.sun_path);
    }
    count = tcw_places_list(places, geteuid());
    for (i = 0; i < count; i++) {
        if (!address_set(&address, places[i].folder, "/" TCW_SOCKET_NAME))
            continue;
        fd = connect_address(&address, places[i].shared, deadline_ns);
        if (fd >= 0)
            return fd;
        if (fd != -ENOENT && fd != -ECONNREFUSED && fd != -ENOTDIR)
            return connect_failed(-fd, address.sun_path);
        snprintf(tried + strlen(tried), sizeof(tried) - strlen(tried), "%s%s", i ? ", " : "", address.sun_path); /* there is room for all */
    }
    return connect_failed(-fd, tried);
}

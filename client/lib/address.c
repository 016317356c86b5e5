#include "address.h"

#include "clock.h"
#include "error.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_NAME "/trtcolld.sock"

enum { MAX_PLACES = 3 };

struct place {
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    bool shared_folder; /* anybody may create a folder of this name, so the listener must prove itself */
};

/* 0, or -1 when the path is longer than an address can hold. */
static int place_set(struct place *place, const char *folder, const char *name)
{
    int length = snprintf(place->path, sizeof(place->path), "%s%s", folder, name);

    return length > 0 && (size_t)length < sizeof(place->path) ? 0 : -1;
}

/* The daemon's rule for its runtime directory, and the system daemon behind it for those who run none of their own. */
static unsigned default_places(struct place *places)
{
    const char *folder = getenv("RUNTIME_DIRECTORY"), *home = getenv("XDG_RUNTIME_DIR");
    char own[64];
    unsigned count = 0;

    memset(places, 0, MAX_PLACES * sizeof(*places));
    if (folder && folder[0] && !place_set(&places[count], folder, SOCKET_NAME))
        count++;
    if (geteuid()) {
        if (home && home[0]) {
            if (!place_set(&places[count], home, "/trtcoll" SOCKET_NAME))
                count++;
        } else {
            snprintf(own, sizeof(own), "/tmp/trtcoll-%u", (unsigned)geteuid());
            if (!place_set(&places[count], own, SOCKET_NAME))
                places[count++].shared_folder = true;
        }
    }
    if (!place_set(&places[count], "/run/trtcoll", SOCKET_NAME))
        count++;
    return count;
}

static bool peer_trusted(int fd)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);

    return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) && (peer.uid == 0 || peer.uid == geteuid());
}

/* Returns the socket or a negative errno. */
static int connect_place(const struct place *place, uint64_t deadline_ns)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int code;

    if (fd < 0)
        return -errno;
    memcpy(address.sun_path, place->path, sizeof(address.sun_path));
    /* EAGAIN: the queue of connections is full; the daemon is busy accepting, and there is nothing to poll for. */
    while (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
        code = errno;
        if (code == EINTR || (code == EAGAIN && tcc_deadline_left_ms(deadline_ns, 1))) {
            poll(NULL, 0, 1);
            continue;
        }
        close(fd);
        return code == EAGAIN ? -ETIMEDOUT : -code;
    }
    if (place->shared_folder && !peer_trusted(fd)) {
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
    struct place places[MAX_PLACES];
    char tried[MAX_PLACES * (sizeof(places[0].path) + 2)] = "";
    unsigned count, i;
    int fd = -ENOENT;

    if (!path)
        path = getenv("TRTCOLL_SOCKET");
    if (path && path[0]) {
        memset(places, 0, sizeof(places));
        if (place_set(&places[0], path, ""))
            return tcc_fail(TRTCOLL_EINVAL, "socket_path is %zu bytes long, at most %zu are possible", strlen(path),
                            sizeof(places[0].path) - 1);
        fd = connect_place(&places[0], deadline_ns);
        return fd >= 0 ? fd : connect_failed(-fd, places[0].path);
    }
    count = default_places(places);
    for (i = 0; i < count; i++) {
        fd = connect_place(&places[i], deadline_ns);
        if (fd >= 0)
            return fd;
        if (fd != -ENOENT && fd != -ECONNREFUSED && fd != -ENOTDIR)
            return connect_failed(-fd, places[i].path);
        snprintf(tried + strlen(tried), sizeof(tried) - strlen(tried), "%s%s", i ? ", " : "", places[i].path); /* there is room for all */
    }
    return connect_failed(-fd, tried);
}

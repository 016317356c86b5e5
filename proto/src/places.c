#include <tcw/places.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Returns whether it fits. */
static bool place_set(struct tcw_place *place, const char *folder, size_t length, const char *below)
{
    int written = snprintf(place->folder, sizeof(place->folder), "%.*s%s", (int)length, folder, below);

    place->shared = false;
    return written > 0 && (size_t)written < sizeof(place->folder);
}

unsigned tcw_places_list(struct tcw_place places[TCW_MAX_PLACES], unsigned uid)
{
    const char *given = getenv("RUNTIME_DIRECTORY"), *session = getenv("XDG_RUNTIME_DIR");
    unsigned count = 0;

    /* systemd's list of directories; the daemon takes the first. */
    if (given && given[0] && place_set(&places[count], given, strcspn(given, ":"), ""))
        count++;
    if (uid && session && session[0]) {
        count += place_set(&places[count], session, strlen(session), "/trtcoll");
    } else if (uid) {
        snprintf(places[count].folder, sizeof(places[count].folder), "/tmp/trtcoll-%u", uid);
        places[count++].shared = true;
    }
    place_set(&places[count], "/run/trtcoll", sizeof("/run/trtcoll") - 1, "");
    return count + 1;
}

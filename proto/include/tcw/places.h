/*
 * Where a daemon may be found by those who were not told: the daemon's own rule for its runtime directory, and behind it the system
 * daemon for users who run none of their own. Used by the client library and the operator's tool, so that both find the same one.
 * A pure function of the environment; nothing is looked at or kept.
 */
#ifndef TCW_PLACES_H
#define TCW_PLACES_H

#include <stdbool.h>

#define TCW_SOCKET_NAME "trtcolld.sock"
#define TCW_STATS_NAME  "stats"

enum { TCW_MAX_PLACES = 3, TCW_PLACE_BYTES = 92 }; /* a folder, '/' and the socket's name are an address */

struct tcw_place {
    char folder[TCW_PLACE_BYTES];
    bool shared; /* anybody may make a folder of this name, so whoever listens there must prove itself */
};

/* The places for a process of this user, best first: at least one. Folders that are too long for a socket are left out. */
unsigned tcw_places_list(struct tcw_place places[TCW_MAX_PLACES], unsigned uid);

#endif

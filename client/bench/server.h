/*
 * The daemon that is measured: one of our own in a private directory, or a running one.
 * Owner: the parent process; server_stop ends what server_start began, and is right after a failed start too.
 */
#ifndef BENCH_SERVER_H
#define BENCH_SERVER_H

#include "bench.h"

struct server {
    pid_t pid;           /* the control process */
    bool own;            /* started here */
    char directory[128]; /* own: runtime directory; "" otherwise */
    char socket_path[192];
};

/* 0, or an exit code after a message on stderr. On success settings->socket_path is set. */
int server_start(struct settings *settings, struct server *server);
/* The same in two steps, for a daemon of our own: a place, which makes settings->socket_path known, then the process. */
int server_prepare(struct settings *settings, struct server *server);
int server_launch(const struct settings *settings, struct server *server);
/* Gives our own daemon the configuration of these settings. EXIT_FAILED: it does not take it. */
int server_reload(const struct settings *settings, const struct server *server);
/* Runs trtcollctl, which stands beside this program or in the search path, with one command; not for long. What it prints is in text. */
int server_ctl(const struct server *server, const char *command, char *text, size_t size);
/* What our own daemon has to say, to stderr. */
void server_show_log(const struct server *server);
/* 0, or EXIT_FAILED if our own daemon did not end properly. */
int server_stop(struct server *server);

#endif

/*
 * Repeating a command: as frames on the terminal (alternate screen, q or Ctrl-C ends), or one output after the other for scripts.
 * Owner: main and `top`. Installs handlers for SIGINT and SIGTERM while it runs and restores terminal and handlers.
 */
#ifndef TCC_CTL_SCREEN_H
#define TCC_CTL_SCREEN_H

#include "command.h"

/* Runs `frame` every session->interval seconds, session->frames times; returns the code of the last one. */
tcc_exit tcc_repeat(struct tcc_session *session, tcc_exit (*frame)(struct tcc_session *session));

/* For `frame`: the first one of a repetition comes without a wait before it. Waits; false: the user wants to end. */
bool tcc_screen_wait(double seconds);

#endif

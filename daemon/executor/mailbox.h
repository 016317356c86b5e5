/*
 * Mailbox: what the threads of an executor have to say to the control process. Any thread posts; the main thread alone sends, so that
 * nobody else ever waits for the socket.
 *
 * Lives in an executor process; owned by its main thread, which creates and frees it. A posted letter belongs to the mailbox.
 */
#ifndef TCD_EXECUTOR_MAILBOX_H
#define TCD_EXECUTOR_MAILBOX_H

#include "../shared/executor_wire.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct tcd_ex_letter {
    struct tcd_ex_letter *next;
    struct tcd_ex_message message;
    int fd; /* sent along and then closed; -1 none */
};

struct tcd_ex_mailbox {
    pthread_mutex_t lock;
    struct tcd_ex_letter *first, **last;
    _Atomic bool fatal; /* the process ends when all letters are sent: its device is of no use any more */
    int event;          /* readable: there are letters, or a thread has something else for the main loop to look at */
};

int tcd_ex_mailbox_open(struct tcd_ex_mailbox *mailbox);
void tcd_ex_mailbox_close(struct tcd_ex_mailbox *mailbox);

/* An empty letter, NULL without memory. Whoever must not fail later gets it beforehand. */
struct tcd_ex_letter *tcd_ex_letter_create(void);
/* The answer to a request, TCD_EX_DONE with what tells which one it was; code, value and text are the caller's. NULL without memory. */
struct tcd_ex_letter *tcd_ex_letter_answer(const struct tcd_ex_message *request);

/* Posts a letter from malloc and wakes the main loop. Any thread. */
void tcd_ex_mailbox_post(struct tcd_ex_mailbox *mailbox, struct tcd_ex_letter *letter);
/* Only wakes the main loop. Any thread. */
void tcd_ex_mailbox_wake(struct tcd_ex_mailbox *mailbox);

/* Main thread: forgets the wake-ups so far. */
void tcd_ex_mailbox_quiet(struct tcd_ex_mailbox *mailbox);
/* Main thread: sends what it can. 1: all sent; 0: the socket is full; TCW_EBUSY: to be tried again soon; TCW_ECONN: the control process is
 * gone. */
int tcd_ex_mailbox_send(struct tcd_ex_mailbox *mailbox, int socket);

#endif

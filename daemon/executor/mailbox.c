#include "mailbox.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

int tcd_ex_mailbox_open(struct tcd_ex_mailbox *mailbox)
{
    mailbox->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (mailbox->event < 0)
        return TCW_EIO;
    pthread_mutex_init(&mailbox->lock, NULL);
    mailbox->first = NULL;
    atomic_init(&mailbox->fatal, false);
    mailbox->last = &mailbox->first;
    return 0;
}

static void letter_free(struct tcd_ex_letter *letter)
{
    if (letter->fd >= 0)
        close(letter->fd);
    free(letter);
}

void tcd_ex_mailbox_close(struct tcd_ex_mailbox *mailbox)
{
    while (mailbox->first) {
        struct tcd_ex_letter *letter = mailbox->first;
        mailbox->first = letter->next;
        letter_free(letter);
    }
    pthread_mutex_destroy(&mailbox->lock);
    close(mailbox->event);
}

struct tcd_ex_letter *tcd_ex_letter_create(void)
{
    struct tcd_ex_letter *letter = calloc(1, sizeof *letter);
    if (letter)
        letter->fd = -1;
    return letter;
}

struct tcd_ex_letter *tcd_ex_letter_answer(const struct tcd_ex_message *request)
{
    struct tcd_ex_letter *letter = tcd_ex_letter_create();
    if (!letter)
        return NULL;
    letter->message.opcode = TCD_EX_DONE;
    letter->message.cookie = request->cookie;
    letter->message.attachment = request->attachment;
    letter->message.client = request->client;
    letter->message.handle = request->handle;
    letter->message.communicator = request->communicator;
    return letter;
}

void tcd_ex_mailbox_post(struct tcd_ex_mailbox *mailbox, struct tcd_ex_letter *letter)
{
    letter->next = NULL;
    pthread_mutex_lock(&mailbox->lock);
    *mailbox->last = letter;
    mailbox->last = &letter->next;
    pthread_mutex_unlock(&mailbox->lock);
    tcd_ex_mailbox_wake(mailbox);
}

void tcd_ex_mailbox_wake(struct tcd_ex_mailbox *mailbox)
{
    eventfd_write(mailbox->event, 1);
}

void tcd_ex_mailbox_quiet(struct tcd_ex_mailbox *mailbox)
{
    eventfd_t count;
    eventfd_read(mailbox->event, &count);
}

int tcd_ex_mailbox_send(struct tcd_ex_mailbox *mailbox, int socket)
{
    for (;;) {
        pthread_mutex_lock(&mailbox->lock);
        struct tcd_ex_letter *letter = mailbox->first;
        pthread_mutex_unlock(&mailbox->lock);
        if (!letter)
            return 1;
        /* Others only append, and this thread alone removes: the first letter stays the first. */
        int rc = tcd_ex_send(socket, &letter->message, &letter->fd, letter->fd >= 0);
        if (rc == TCW_EAGAIN)
            return 0;
        if (rc == TCW_EBUSY)
            return rc;
        if (rc < 0)
            return TCW_ECONN;
        pthread_mutex_lock(&mailbox->lock);
        mailbox->first = letter->next;
        if (!mailbox->first)
            mailbox->last = &mailbox->first;
        pthread_mutex_unlock(&mailbox->lock);
        letter_free(letter);
    }
}

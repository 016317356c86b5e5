#include "allocation.h"

#include <tck/memory.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct allocation {
    uint64_t bytes;
    struct tcd_ex_mailbox *mailbox;
    struct tcd_ex_letter *letter; /* the answer, made beforehand */
    _Atomic unsigned *running;
};

static void *allocation_main(void *arg)
{
    struct allocation *allocation = arg;
    struct tcd_ex_letter *letter = allocation->letter;
    struct tck_memory memory = {.fd = -1};
    int rc = allocation->bytes ? tck_memory_create(TCK_DEVICE_HOST, "trtcoll", allocation->bytes, &memory) : TCW_EINVAL;
    letter->message.opcode = rc < 0 ? TCD_EX_DONE : TCD_EX_ALLOCATED;
    letter->message.code = rc;
    if (rc == 0) {
        letter->message.value = memory.bytes;
        letter->fd = memory.fd; /* sent and closed */
        memory.fd = -1;
        tck_memory_release(&memory);
    } else {
        snprintf(letter->message.text, sizeof letter->message.text, "%llu bytes cannot be allocated: %s",
                 (unsigned long long)allocation->bytes, tcw_error_text(rc));
    }
    struct tcd_ex_mailbox *mailbox = allocation->mailbox;
    _Atomic unsigned *running = allocation->running;
    free(allocation);
    tcd_ex_mailbox_post(mailbox, letter);
    atomic_fetch_sub(running, 1); /* the last touch: the process may end now */
    return NULL;
}

int tcd_ex_allocation_start(const struct tcd_ex_message *message, struct tcd_ex_mailbox *mailbox, _Atomic unsigned *running)
{
    struct allocation *allocation = calloc(1, sizeof *allocation);
    struct tcd_ex_letter *letter = tcd_ex_letter_create();
    pthread_t thread;
    if (!allocation || !letter) {
        free(allocation);
        free(letter);
        return TCW_ENOMEM;
    }
    letter->message.cookie = message->cookie;
    letter->message.client = message->client;
    *allocation = (struct allocation){message->value, mailbox, letter, running};
    atomic_fetch_add(running, 1);
    if (pthread_create(&thread, NULL, allocation_main, allocation) == 0)
        pthread_detach(thread);
    else
        allocation_main(allocation); /* late is better than never */
    return 0;
}

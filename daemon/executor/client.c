#include "client.h"

#include <stdlib.h>

struct tcd_ex_client *tcd_ex_clients_find(struct tcd_ex_clients *clients, uint64_t id)
{
    struct tcd_ex_client *client = clients->first;
    while (client && client->id != id)
        client = client->next;
    return client;
}

struct tcd_ex_client *tcd_ex_clients_get(struct tcd_ex_clients *clients, uint64_t id)
{
    struct tcd_ex_client *client = tcd_ex_clients_find(clients, id);
    if (client)
        return client;
    client = calloc(1, sizeof *client);
    if (!client)
        return NULL;
    client->id = id;
    pthread_mutex_init(&client->lock, NULL);
    client->next = clients->first;
    clients->first = client;
    return client;
}

int tcd_ex_client_memory_add(struct tcd_ex_clients *clients, struct tcd_ex_client *client, const struct tcd_ex_message *message, int *fds,
                             unsigned fd_count, char *text)
{
    struct tcd_ex_engine *engine = clients->engine;
    struct tcd_ex_memory *memory = calloc(1, sizeof *memory);
    if (!memory)
        return TCW_ENOMEM;
    int rc = engine->ops->memory_open(engine, message, fds, fd_count, memory, text);
    if (rc == 0) {
        pthread_mutex_lock(&client->lock);
        rc = tcd_ex_handle_map_add(&client->memory, message->handle, memory);
        pthread_mutex_unlock(&client->lock);
        if (rc < 0)
            engine->ops->memory_close(engine, memory);
    }
    if (rc < 0)
        free(memory);
    return rc;
}

static void memory_drop_locked(struct tcd_ex_client *client, struct tcd_ex_memory *memory, uint64_t cookie)
{
    memory->drop_cookie = cookie;
    memory->next = client->dropped;
    client->dropped = memory;
    /* Whoever takes the last pin away from now on sees this, or was before it: then the next sweep sees no pin. */
    atomic_fetch_or_explicit(&memory->pins, TCD_EX_DROPPED, memory_order_acq_rel);
}

int tcd_ex_client_memory_drop(struct tcd_ex_client *client, uint64_t handle, uint64_t cookie)
{
    pthread_mutex_lock(&client->lock);
    struct tcd_ex_memory *memory = tcd_ex_handle_map_remove(&client->memory, handle);
    if (memory)
        memory_drop_locked(client, memory, cookie);
    pthread_mutex_unlock(&client->lock);
    return memory ? 0 : TCW_ENOENT;
}

void tcd_ex_client_memory_drop_all(struct tcd_ex_client *client, uint64_t cookie)
{
    client->gone_cookie = cookie;
    pthread_mutex_lock(&client->lock);
    struct tcd_ex_memory *memory;
    while ((memory = tcd_ex_handle_map_pop(&client->memory)))
        memory_drop_locked(client, memory, 0);
    pthread_mutex_unlock(&client->lock);
}

static void answer(struct tcd_ex_mailbox *mailbox, uint64_t cookie, uint64_t client)
{
    if (!cookie)
        return;
    struct tcd_ex_letter *letter = tcd_ex_letter_create();
    if (!letter)
        abort(); /* an answer that never comes would hold the control process; a death is noticed */
    letter->message.opcode = TCD_EX_DONE;
    letter->message.cookie = cookie;
    letter->message.client = client;
    tcd_ex_mailbox_post(mailbox, letter);
}

/* Takes the unpinned ones off the list of dropped memory. */
static struct tcd_ex_memory *take_unpinned(struct tcd_ex_client *client)
{
    struct tcd_ex_memory *free_now = NULL;
    pthread_mutex_lock(&client->lock);
    for (struct tcd_ex_memory **at = &client->dropped; *at;) {
        struct tcd_ex_memory *memory = *at;
        if (atomic_load_explicit(&memory->pins, memory_order_acquire) != TCD_EX_DROPPED) {
            at = &memory->next;
            continue;
        }
        *at = memory->next;
        memory->next = free_now;
        free_now = memory;
    }
    pthread_mutex_unlock(&client->lock);
    return free_now;
}

/* Memory on its way out, with the answers for those who wait for it. */
struct closing {
    struct tcd_ex_engine *engine;
    struct tcd_ex_mailbox *mailbox;
    struct tcd_ex_memory *first;
    uint64_t client;
};

static void close_all(const struct closing *closing)
{
    for (struct tcd_ex_memory *memory = closing->first, *next; memory; memory = next) {
        next = memory->next;
        closing->engine->ops->memory_close(closing->engine, memory);
        answer(closing->mailbox, memory->drop_cookie, closing->client);
        free(memory);
    }
}

static void close_later(void *arg)
{
    struct closing *closing = arg;
    close_all(closing);
    tcd_ex_mailbox_wake(closing->mailbox);
    free(closing);
}

/* A GPU's driver may wait for the device before it unmaps anything, and what runs there may wait for a client: not in this thread. */
static void close_memory(const struct closing *order)
{
    struct closing *closing = order->engine->device ? malloc(sizeof *closing) : NULL;
    if (!closing) {
        close_all(order);
        return;
    }
    *closing = *order;
    tcd_ex_chores_start(order->engine->chores, "unmapping memory", TCD_EX_UNLIMITED, close_later, closing);
}

void tcd_ex_clients_sweep(struct tcd_ex_clients *clients, struct tcd_ex_mailbox *mailbox)
{
    for (struct tcd_ex_client **at = &clients->first; *at;) {
        struct tcd_ex_client *client = *at;
        const struct closing closing = {clients->engine, mailbox, take_unpinned(client), client->id};
        if (closing.first)
            close_memory(&closing);
        /* Only this thread adds to either, so no lock is needed to see them empty. */
        if (client->dropped == NULL) {
            answer(mailbox, client->gone_cookie, client->id);
            client->gone_cookie = 0;
        }
        if (client->attachments || client->memory.count || client->dropped) {
            at = &client->next;
            continue;
        }
        *at = client->next;
        tcd_ex_handle_map_free(&client->memory);
        pthread_mutex_destroy(&client->lock);
        free(client);
    }
}

uint64_t tcd_ex_clients_memory_count(struct tcd_ex_clients *clients)
{
    uint64_t count = 0;
    for (struct tcd_ex_client *client = clients->first; client; client = client->next) {
        count += client->memory.count;
        for (struct tcd_ex_memory *memory = client->dropped; memory; memory = memory->next)
            ++count;
    }
    return count;
}

int tcd_ex_client_pin(struct tcd_ex_client *client, const struct tcw_ref *refs, unsigned count, void **addresses,
                      struct tcd_ex_memory **pins, unsigned *bad)
{
    static _Alignas(TCW_LINE) unsigned char nothing[TCW_LINE]; /* where empty buffers lie */
    int rc = 0;
    unsigned i;
    struct tcd_ex_memory *memory = NULL;
    uint64_t known = 0; /* handle of `memory`: buffers mostly come from the same range */
    pthread_mutex_lock(&client->lock);
    for (i = 0; i < count; ++i) {
        const struct tcw_ref *ref = &refs[i];
        pins[i] = NULL;
        addresses[i] = nothing;
        if (!ref->length)
            continue;
        if (!memory || ref->handle != known) {
            memory = tcd_ex_handle_map_find(&client->memory, ref->handle);
            if (!memory) {
                rc = TCW_ENOENT;
                break;
            }
            known = ref->handle;
            pins[i] = memory; /* and for the references to it that follow at once */
            atomic_fetch_add_explicit(&memory->pins, 1, memory_order_relaxed);
        }
        if (ref->length > memory->bytes || ref->offset > memory->bytes - ref->length) {
            rc = TCW_EINVAL;
            break;
        }
        addresses[i] = memory->base + ref->offset;
    }
    if (rc < 0) {
        *bad = i;
        for (unsigned j = 0; j <= i; ++j)
            if (pins[j]) /* with the lock nothing can have been dropped meanwhile, so nobody waits for this */
                atomic_fetch_sub_explicit(&pins[j]->pins, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&client->lock);
    return rc;
}

bool tcd_ex_client_unpin(struct tcd_ex_memory *const *pins, unsigned count)
{
    bool awaited = false;
    for (unsigned i = 0; i < count; ++i) {
        /* With the last pin of what was dropped, the memory belongs to the main thread: it is not touched again. */
        if (pins[i] && atomic_fetch_sub_explicit(&pins[i]->pins, 1, memory_order_acq_rel) == (TCD_EX_DROPPED | 1))
            awaited = true;
    }
    return awaited;
}

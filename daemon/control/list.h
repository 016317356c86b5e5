/*
 * Circular doubly linked lists inside their objects. A link belongs to the object it stands in; a head to whoever keeps the list.
 * Control process, loop thread. Nothing to free.
 */
#ifndef TCD_CONTROL_LIST_H
#define TCD_CONTROL_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct tcd_link {
    struct tcd_link *next, *prev;
};

/* The object around a link. */
#define TCD_ENTRY(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

/* `safe` holds the next link, so that the loop's body may remove `at` - and nothing else. */
#define TCD_EACH(at, head)            for ((at) = (head)->next; (at) != (head); (at) = (at)->next)
#define TCD_EACH_SAFE(at, safe, head) for ((at) = (head)->next; (safe) = (at)->next, (at) != (head); (at) = (safe))

static inline void tcd_list_init(struct tcd_link *head)
{
    head->next = head;
    head->prev = head;
}

static inline bool tcd_list_empty(const struct tcd_link *head)
{
    return head->next == head;
}

/* Puts `link` before `place`; before a head is the end of the list. */
static inline void tcd_list_insert(struct tcd_link *place, struct tcd_link *link)
{
    link->next = place;
    link->prev = place->prev;
    place->prev->next = link;
    place->prev = link;
}

static inline void tcd_list_append(struct tcd_link *head, struct tcd_link *link)
{
    tcd_list_insert(head, link);
}

/* Removing twice, or a link that was initialized and never inserted, does nothing. */
static inline void tcd_list_remove(struct tcd_link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    tcd_list_init(link);
}

#endif

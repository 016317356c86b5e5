/* What a process that waits for others has to know of the machine it shares with them. Pure functions; nothing is kept. */
#ifndef TCW_MACHINE_H
#define TCW_MACHINE_H

#include <stdbool.h>

/* Processors that this process may use. One that is bound to a single processor says nothing about its peers: then all of the machine. */
unsigned tcw_processors(void);

/*
 * Whether `threads` that take part in one operation have to share processors. Then a waiter that spins keeps from its work whom it waits
 * for, so it lets others go first from the beginning.
 */
static inline bool tcw_crowded(unsigned threads)
{
    return tcw_processors() < threads;
}

#endif

/*
 * Which processor a rank is bound to: each gets a core of its own as long as there are cores, so the first hardware thread of every core
 * comes before the second of any. No state; any thread.
 */
#ifndef BENCH_PIN_H
#define BENCH_PIN_H

#include <stdint.h>

/* The processor for `rank` among those that the calling process may use, counted round; -1: they are not known. */
int pin_processor(uint32_t rank);

/* Binds the calling process to it. */
void pin_rank(uint32_t rank);

#endif

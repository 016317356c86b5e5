/*
 * The size rule of public structs: older (smaller) ones are completed with zeros, newer (larger) ones are accepted while their unknown
 * part is zero. Pure functions over the caller's memory.
 */
#ifndef TCC_ARGS_H
#define TCC_ARGS_H

#include <stddef.h>

/* Copies *from (which begins with its size) into *to of `known` bytes. `what` names the struct in the error text. 0 or EINVAL. */
int tcc_args_in(const char *what, const void *from, void *to, size_t known);

/* Copies *from of `known` bytes into *to (which begins with its size, kept); zeroes what a newer caller has beyond it. 0 or EINVAL. */
int tcc_args_out(const char *what, const void *from, size_t known, void *to);

#endif

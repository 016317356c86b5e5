/*
 * Lists of words that may stand somewhere: known keys, known names; and the word that was probably meant.
 * Owner: the caller's stack; the words themselves belong to whoever gave them. Threads: one.
 */
#ifndef TCF_SRC_WORDS_H
#define TCF_SRC_WORDS_H

#include "value.h"

enum { TCF_MAX_WORDS = 80, TCF_MAX_WORD_BYTES = 64 };

struct tcf_words {
    char items[TCF_MAX_WORDS][TCF_MAX_WORD_BYTES];
    unsigned count;
};

/* Adds the first `length` bytes of `word` unless they are there already; too many or too long: dropped, they only decorate messages. */
void tcf_words_add(struct tcf_words *words, const char *word, size_t length);
bool tcf_words_have(const struct tcf_words *words, const char *word);
/* The word that differs from `word` by the fewest edits, NULL if none is near. */
const char *tcf_words_nearest(const struct tcf_words *words, const char *word);
/* "one, two, three", cut at `size`. */
void tcf_words_list(const struct tcf_words *words, char *out, size_t size);

/* Complains about `member`, whose key is none of `known`. */
void tcf_key_reject(const struct tcf_value *member, const struct tcf_words *known, struct tcf_issues *issues);
/* Complains about every member of `object` whose key is not in `known` ("name|address"), or if it is no object: then false. */
bool tcf_keys_check(const struct tcf_value *object, const char *known, struct tcf_issues *issues);

#endif

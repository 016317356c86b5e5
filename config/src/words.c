#include "words.h"

#include "issues.h"

#include <string.h>

void tcf_words_add(struct tcf_words *words, const char *word, size_t length)
{
    if (words->count == TCF_MAX_WORDS || length >= TCF_MAX_WORD_BYTES)
        return;
    char *item = words->items[words->count];
    memcpy(item, word, length);
    item[length] = '\0';
    if (!tcf_words_have(words, item))
        words->count++;
}

bool tcf_words_have(const struct tcf_words *words, const char *word)
{
    for (unsigned i = 0; i < words->count; i++) {
        if (strcmp(words->items[i], word) == 0)
            return true;
    }
    return false;
}

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Levenshtein's distance, by rows; both shorter than TCF_MAX_WORD_BYTES. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[TCF_MAX_WORD_BYTES];
    size_t width = strlen(b);
    for (unsigned j = 0; j <= width; j++)
        row[j] = j;
    for (unsigned i = 1; a[i - 1]; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= width; j++) {
            unsigned replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = least(replaced, least(row[j], row[j - 1]) + 1);
        }
    }
    return row[width];
}

const char *tcf_words_nearest(const struct tcf_words *words, const char *word)
{
    size_t length = strlen(word);
    if (length >= TCF_MAX_WORD_BYTES)
        return NULL;
    const char *nearest = NULL;
    unsigned best = length < 4 ? 2 : 3; /* that many edits are too many */
    for (unsigned i = 0; i < words->count; i++) {
        unsigned distance = edit_distance(word, words->items[i]);
        if (distance < best) {
            best = distance;
            nearest = words->items[i];
        }
    }
    return nearest;
}

void tcf_words_list(const struct tcf_words *words, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < words->count && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", i ? ", " : "", words->items[i]);
}

void tcf_key_reject(const struct tcf_value *member, const struct tcf_words *known, struct tcf_issues *issues)
{
    char pointer[256], list[320];
    tcf_value_pointer(member, pointer, sizeof(pointer));
    tcf_words_list(known, list, sizeof(list));
    const char *nearest = tcf_words_nearest(known, member->key);
    const char *file = tcf_document_file(member->document);
    if (nearest)
        tcf_issue_add(issues, file, pointer, "found an unknown key, did you mean \"%s\"? Allowed: %s", nearest, list);
    else
        tcf_issue_add(issues, file, pointer, "found an unknown key, allowed: %s", list);
}

bool tcf_keys_check(const struct tcf_value *object, const char *known, struct tcf_issues *issues)
{
    if (object->kind != TCF_OBJECT) {
        tcf_value_reject(object, issues, "an object");
        return false;
    }
    struct tcf_words words = {.count = 0};
    for (;;) {
        size_t length = strcspn(known, "|");
        tcf_words_add(&words, known, length);
        if (!known[length])
            break;
        known += length + 1;
    }
    for (const struct tcf_value *member = object->first; member; member = member->next) {
        if (!tcf_words_have(&words, member->key))
            tcf_key_reject(member, &words, issues);
    }
    return true;
}

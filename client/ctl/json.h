/*
 * JSON output: cJSON with the conventions of `--json`. Integers are exact up to 64 bits, unknown numbers are null, ids without
 * arithmetic meaning (hashes, generations) are strings of 16 hexadecimal digits. Owner: who made the document; tcc_json_end frees it.
 */
#ifndef TCC_CTL_JSON_H
#define TCC_CTL_JSON_H

#include "snapshot.h"

#include <cjson/cJSON.h>
#include <stdio.h>

enum { TCC_JSON_SCHEMA = 1 };

/* {"schema_version": 1, "command": ...}; with a snapshot also who wrote it and when. */
cJSON *tcc_json_begin(const char *command, const struct tcc_snapshot *snapshot);
/* Prints the document, on one line if `compact`, and frees it. */
void tcc_json_end(cJSON *document, FILE *file, bool compact);

/* Indented by two, lists of plain values on one line. */
void tcc_json_print(const cJSON *value, FILE *file);

cJSON *tcc_json_object(cJSON *parent, const char *name); /* new member of an object; name NULL: new item of an array */
cJSON *tcc_json_array(cJSON *parent, const char *name);
void tcc_json_u64(cJSON *object, const char *name, uint64_t value);
void tcc_json_i64(cJSON *object, const char *name, int64_t value);
void tcc_json_real(cJSON *object, const char *name, double value); /* NaN becomes null */
void tcc_json_hex(cJSON *object, const char *name, uint64_t value);
void tcc_json_bool(cJSON *object, const char *name, bool value);
void tcc_json_text(cJSON *object, const char *name, const char *value); /* NULL becomes null */
void tcc_json_ranks(cJSON *object, const char *name, uint64_t bits);    /* [0, 2, 3] */

#endif

/*
 * The daemon's JSON answers as text for people: members as "name value" lines, lists of objects as tables, units by the names' endings
 * (_bytes, _ns, _ms). Pure.
 */
#ifndef TCC_CTL_RENDER_H
#define TCC_CTL_RENDER_H

#include "out.h"

#include <cjson/cJSON.h>

void tcc_render(const cJSON *value, const struct tcc_out *out, unsigned indent);

#endif

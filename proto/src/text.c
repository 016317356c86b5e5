#include <tcw/message.h>

#include <string.h>

void tcw_text_set(char *to, size_t size, const char *from)
{
    size_t length = from ? strnlen(from, size - 1) : 0;
    if (length)
        memcpy(to, from, length);
    memset(to + length, 0, size - length);
}

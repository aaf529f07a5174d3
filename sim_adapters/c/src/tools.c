/* Clocks, names, text, and XXH3-64. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include "../vendor/xxhash.h"

uint64_t hr_hash(const void *data, size_t size)
{
    return XXH3_64bits(data, size);
}

static double seconds_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double hr_now(void)
{
    return seconds_of(CLOCK_REALTIME);
}

double hr_monotonic(void)
{
    return seconds_of(CLOCK_MONOTONIC);
}

void hr_sleep(double seconds)
{
    struct timespec left;
    if (!(seconds > 0.0))
        return;
    left.tv_sec = (time_t)seconds;
    left.tv_nsec = (long)((seconds - (double)left.tv_sec) * 1e9);
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}

uint64_t hr_aligned(uint64_t size)
{
    return (size + HR_ALIGNMENT - 1) / HR_ALIGNMENT * HR_ALIGNMENT;
}

char *hr_copy(const char *text)
{
    return hr_copy_span(text == NULL ? "" : text, text == NULL ? 0 : strlen(text));
}

char *hr_copy_span(const char *text, size_t size)
{
    char *out = malloc(size + 1);
    if (out == NULL)
        return NULL;
    if (size)
        memcpy(out, text, size);
    out[size] = 0;
    return out;
}

bool hr_is_utf8(const char *text)
{
    const uint8_t *p = (const uint8_t *)text;
    while (*p) {
        int more = *p < 0x80 ? 0 : *p >= 0xc2 && *p < 0xe0 ? 1 : (*p & 0xf0) == 0xe0 ? 2
                   : *p >= 0xf0 && *p < 0xf5 ? 3 : -1;
        if (more < 0 || (*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) ||
            (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f))
            return false;
        for (p++; more > 0; more--, p++)
            if ((*p & 0xc0) != 0x80)
                return false;
    }
    return true;
}

int hr_check_name(const char *name, const char *what)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    size_t length = name == NULL ? 0 : strlen(name);
    if (length >= 1 && length <= HR_MAX_NAME && strspn(name, letters) == length &&
        strchr("_.-", name[0]) == NULL)
        return HR_OK;
    return hr_fail(HR_ERROR_ARGUMENT,
                   "The %s '%.140s' is not a valid name: use 1 to 128 letters, digits, '_', '.' "
                   "or '-', beginning with a letter or digit.",
                   what, name == NULL ? "(NULL)" : hr_is_utf8(name) ? name : "(not UTF-8)");
}

bool hr_random_hex(char *text, size_t bytes)
{
    static const char digits[] = "0123456789abcdef";
    int file = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    for (size_t i = 0; i < bytes; i++) {
        uint8_t byte;
        if (read(file, &byte, 1) != 1) {
            close(file);
            return false;
        }
        text[2 * i] = digits[byte >> 4];
        text[2 * i + 1] = digits[byte & 15];
    }
    text[2 * bytes] = 0;
    close(file);
    return true;
}

char *hr_read_file(const char *path, size_t limit)
{
    size_t size = 0;
    char *text = malloc(limit + 1);
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0 || text == NULL) {
        int why = errno;
        if (file >= 0)
            close(file);
        free(text);
        errno = why;
        return NULL;
    }
    while (size < limit) {
        ssize_t n = read(file, text + size, limit - size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        size += (size_t)n;
    }
    close(file);
    text[size] = 0;
    return text;
}

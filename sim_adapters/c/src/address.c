/* Where the stager is: an address, the environment, or stager.json; and the keys to reach it. */
#include "internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

void hr_node(char boot[256], char node[512])
{
    char space[200];
    char *text = hr_read_file("/proc/sys/kernel/random/boot_id", 200);
    boot[0] = 0;
    if (text != NULL) {
        text[strcspn(text, " \n")] = 0;
        snprintf(boot, 256, "%s", text);
        free(text);
    } else if (gethostname(boot, 255) != 0)
        boot[0] = 0;
    boot[255] = 0;
    ssize_t n = readlink("/proc/self/ns/pid", space, sizeof space - 1);
    space[n < 0 ? 0 : n] = 0;
    snprintf(node, 512, n < 0 ? "%s%s" : "%s %s", boot, space);
}

/* ---------------------------------------------------------------- a flat object of JSON */

static const char *spaces(const char *p)
{
    return p + strspn(p, " \t\r\n");
}

/* Copy a JSON text without its quotes; escapes other than the simple ones fail. */
static const char *json_text(const char *p, char *out, size_t size)
{
    size_t n = 0;
    if (*p++ != '"')
        return NULL;
    for (; *p != '"'; p++) {
        char c = *p;
        if (c == 0 || n + 1 >= size)
            return NULL;
        if (c == '\\') {
            c = *++p;
            if (c == 0 || strchr("\"\\/", c) == NULL)
                return NULL;
        }
        out[n++] = c;
    }
    out[n] = 0;
    return p + 1;
}

/* Write the value of a key, text or number; false if it is not there. */
static bool json_field(const char *text, const char *key, char *out, size_t size)
{
    char name[64], value[1024];
    const char *p = spaces(text);
    if (*p != '{')
        return false;
    do {
        p = json_text(spaces(p + 1), name, sizeof name);
        if (p == NULL || *(p = spaces(p)) != ':')
            return false;
        p = spaces(p + 1);
        if (*p == '"')
            p = json_text(p, value, sizeof value);
        else {
            size_t n = strcspn(p, ",}\n");
            snprintf(value, sizeof value, "%.*s", (int)(n < 1000 ? n : 1000), p);
            p += n;
        }
        if (p == NULL)
            return false;
        if (strcmp(name, key) == 0) {
            snprintf(out, size, "%s", value);
            return true;
        }
        p = spaces(p);
    } while (*p == ',');
    return false;
}

/* ----------------------------------------------------------------------- stager.json */

static bool has_ended(const char *text)
{
    char pid[32], where[512], boot[256], node[512];
    if (!json_field(text, "pid", pid, sizeof pid) || !json_field(text, "node", where, sizeof where))
        return false;
    long number = strtol(pid, NULL, 10);
    hr_node(boot, node);
    return number > 0 && strcmp(where, node) == 0 && kill((pid_t)number, 0) != 0 && errno == ESRCH;
}

static char *wait_for_file(const char *path, double end, double timeout)
{
    const char *stale = "";
    for (;;) {
        char *text = hr_read_file(path, 65536);
        if (text != NULL && !has_ended(text))
            return text;
        stale = text == NULL ? "" : "; the one there was left behind by a process that has ended";
        free(text);
        if (hr_monotonic() >= end)
            break;
        hr_sleep(0.05); /* a file on a network file system cannot be waited for otherwise */
    }
    hr_fail(HR_ERROR_NOBODY,
            "Waited %g s for a stager to write %.500s%s; start one with `headrace stage`, or check "
            "that both use the same run directory.",
            timeout, path, stale);
    return NULL;
}

static char *join_address(char *addresses, const char *more)
{
    size_t n = addresses == NULL ? 0 : strlen(addresses) + 1;
    char *out = realloc(addresses, n + strlen(more) + 1);
    if (out == NULL) {
        free(addresses);
        hr_fail_memory();
        return NULL;
    }
    if (n > 0)
        out[n - 1] = ',';
    strcpy(out + n, more);
    return out;
}

static char *find_in_directory(const char *directory, double timeout)
{
    double end = hr_monotonic() + timeout;
    char *out = NULL, name[64] = "stager.json", value[1024];
    long count = 1;
    for (long number = 1; number <= count; number++) {
        size_t size = strlen(directory) + sizeof name + 2;
        char *path = malloc(size);
        if (path == NULL) {
            hr_fail_memory();
            free(out);
            return NULL;
        }
        if (number > 1)
            snprintf(name, sizeof name, "stager-%ld.json", number);
        snprintf(path, size, "%s/%s", directory, name);
        char *text = wait_for_file(path, end, timeout);
        bool good = text != NULL && json_field(text, "address", value, sizeof value);
        if (text != NULL && !good)
            hr_fail(HR_ERROR_PROTOCOL, "%.500s was not written by a stager; remove it and start "
                                       "the stager anew.", path);
        if (good)
            out = join_address(out, value);
        if (good && json_field(text, "version", value, sizeof value) &&
            strtol(value, NULL, 10) != HEADRACE_WIRE_VERSION) {
            hr_fail(HR_ERROR_VERSION,
                    "The stager of %.500s speaks protocol version %.20s, this library version %d; "
                    "use the same release on both sides.", path, value, HEADRACE_WIRE_VERSION);
            good = false;
        }
        if (good && number == 1 && json_field(text, "count", value, sizeof value))
            count = strtol(value, NULL, 10) > 4096 ? 1 : strtol(value, NULL, 10);
        free(text);
        free(path);
        if (!good || out == NULL) {
            free(out);
            return NULL;
        }
    }
    return out;
}

char *hr_find_stager(const char *address, const char *run_directory, double timeout)
{
    const char *given = getenv("HEADRACE_STAGER");
    char *out;
    if (address != NULL && *address)
        out = hr_copy(address);
    else if (given != NULL && *given) {
        if (strstr(given, "://") == NULL) {
            hr_fail(HR_ERROR_CONFIG,
                    "The environment variable HEADRACE_STAGER is '%.200s', which is no address; "
                    "set it to what the stager shows when it starts, such as "
                    "tcp://127.0.0.1:5555.", given);
            return NULL;
        }
        out = hr_copy(given);
    } else if (run_directory != NULL && *run_directory)
        return find_in_directory(run_directory, timeout);
    else {
        hr_fail(HR_ERROR_CONFIG, "Nobody said where the stager is; set the option 'stager' or "
                                 "'run_directory', or the environment variable HEADRACE_STAGER.");
        return NULL;
    }
    if (out == NULL)
        hr_fail_memory();
    return out;
}

/* Of several stagers that one holds a simulation whose hash with its name comes out highest. */
char *hr_owner(const char *addresses, const char *simulation)
{
    size_t length = strlen(simulation);
    char *best = NULL;
    uint64_t highest = 0;
    for (const char *p = addresses; *p;) {
        size_t n = strcspn(p, ",");
        const char *next = p + n + (p[n] == ',');
        while (n > 0 && strchr(" \t", *p) != NULL)
            p++, n--;
        while (n > 0 && strchr(" \t", p[n - 1]) != NULL)
            n--;
        char *text = n > 0 ? malloc(n + length + 2) : NULL;
        if (text != NULL) {
            memcpy(text, p, n);
            text[n] = 0;
            memcpy(text + n + 1, simulation, length + 1);
            uint64_t weight = hr_hash(text, n + 1 + length);
            if (best == NULL || weight > highest ||
                (weight == highest && strcmp(text, best) > 0)) {
                free(best);
                best = text;
                highest = weight;
            } else
                free(text);
        }
        p = next;
    }
    if (best == NULL)
        hr_fail(HR_ERROR_CONFIG, "No stager is named; give its address, or several separated by "
                                 "commas.");
    return best;
}

/* ------------------------------------------------------------------------------- keys */

static bool read_key(const char *text, const char *what, char out[41])
{
    const char *p = strstr(text, what);
    p = p == NULL ? NULL : strchr(p, '"');
    if (p == NULL || strcspn(p + 1, "\"") != 40)
        return false;
    memcpy(out, p + 1, 40);
    out[40] = 0;
    return true;
}

static char *read_key_file(const char *folder, const char *name, bool secret)
{
    char path[1200];
    struct stat facts;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) {
        hr_fail(HR_ERROR_CONFIG, "The path of the folder of keys is too long.");
        return NULL;
    }
    char *text = hr_read_file(path, 65536);
    if (text == NULL)
        hr_fail(HR_ERROR_CONFIG, "Cannot read the key file %.700s: %s.", path, strerror(errno));
    else if (secret && stat(path, &facts) == 0 && (facts.st_mode & 077) != 0) {
        hr_fail(HR_ERROR_CONFIG, "The secret key in %.500s can be read by others than its owner; "
                                 "run: chmod 600 %.300s.", path, path);
        free(text);
        text = NULL;
    }
    return text;
}

int hr_load_keys(hr_keys *keys, const char *folder)
{
    char *own = read_key_file(folder, "client.key", true);
    char *stager = own == NULL ? NULL : read_key_file(folder, "stager.pub", false);
    int out = HR_ERROR_CONFIG;
    if (stager != NULL) {
        keys->given = read_key(own, "public-key", keys->own_public) &&
                      read_key(own, "secret-key", keys->own_secret) &&
                      read_key(stager, "public-key", keys->stager);
        out = keys->given ? HR_OK
                          : hr_fail(HR_ERROR_CONFIG,
                                    "client.key or stager.pub in %.500s is no key file; make them "
                                    "with `headrace keys`, or copy them anew.", folder);
    }
    if (own != NULL) {
        memset(own, 0, strlen(own));
        free(own);
    }
    free(stager);
    return out;
}

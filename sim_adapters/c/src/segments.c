/* Segment files of the stager, mapped; and whether stager and producer share a node. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/vfs.h>
#endif

static bool is_segment_name(const char *path)
{
    const char *name = strrchr(path, '/');
    name = name == NULL ? path : name + 1;
    size_t digits = strspn(name, "0123456789");
    return digits >= 10 && strcmp(name + digits, ".segment") == 0;
}

/* In a RAM file system all pages are made present at once, which costs less than faults. */
static int map_flags(int file)
{
    int flags = MAP_SHARED;
#if defined(__linux__) && defined(MAP_POPULATE)
    struct statfs facts;
    if (fstatfs(file, &facts) == 0 &&
        ((unsigned long)facts.f_type == 0x01021994UL || (unsigned long)facts.f_type == 0x858458f6UL))
        flags |= MAP_POPULATE;
#else
    (void)file;
#endif
    return flags;
}

static uint8_t *map_file(const char *path, size_t size)
{
    struct stat facts;
    void *out = MAP_FAILED;
    if (!is_segment_name(path) || size == 0)
        return NULL;
    /* Without O_NONBLOCK a named pipe would keep us waiting for its other end. */
    int file = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file < 0)
        return NULL;
    if (fstat(file, &facts) == 0 && S_ISREG(facts.st_mode) && facts.st_size >= 0 &&
        (uint64_t)facts.st_size >= size)
        out = mmap(NULL, size, PROT_READ | PROT_WRITE, map_flags(file), file, 0);
    close(file);
    return out == MAP_FAILED ? NULL : out;
}

void hr_unmap(hr_mapping *mapping)
{
    if (mapping == NULL || --mapping->references > 0)
        return;
    munmap(mapping->data, mapping->size);
    free(mapping->path);
    free(mapping);
}

hr_mapping *hr_map(hr_maps *maps, const char *path, size_t size)
{
    const size_t limit = sizeof maps->entries / sizeof *maps->entries;
    hr_mapping *found = NULL;
    size_t at = 0;
    for (; at < maps->n; at++)
        if (maps->entries[at]->size == size && strcmp(maps->entries[at]->path, path) == 0) {
            found = maps->entries[at];
            break;
        }
    if (found == NULL) {
        uint8_t *data = map_file(path, size);
        if (data == NULL)
            return NULL;
        found = calloc(1, sizeof *found);
        char *copy = hr_copy(path);
        if (found == NULL || copy == NULL) {
            munmap(data, size);
            free(found);
            free(copy);
            return NULL;
        }
        found->path = copy;
        found->data = data;
        found->size = size;
        found->references = 1; /* this table's */
        if (maps->n == limit)
            hr_unmap(maps->entries[--maps->n]);
        at = maps->n++;
    }
    for (; at > 0; at--)
        maps->entries[at] = maps->entries[at - 1];
    maps->entries[0] = found;
    found->references++;
    return found;
}

void hr_maps_clear(hr_maps *maps)
{
    while (maps->n > 0)
        hr_unmap(maps->entries[--maps->n]);
}

bool hr_shares_node(const char *path, const char *nonce)
{
    char found[512], wanted[512], boot[256], node[512];
    struct stat facts;
    ssize_t n = -1;
    int file = *path ? open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) : -1;
    if (file < 0)
        return false;
    if (fstat(file, &facts) == 0 && S_ISREG(facts.st_mode))
        n = read(file, found, 256);
    close(file);
    hr_node(boot, node);
    int length = snprintf(wanted, sizeof wanted, "%s %s", nonce, boot);
    return n > 0 && n == length && memcmp(found, wanted, (size_t)n) == 0;
}

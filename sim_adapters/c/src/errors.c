/* Codes and the sentences about them. */
#include "internal.h"

#include <stdio.h>

#if defined(__GNUC__)
static __thread char last[HR_TEXT];
static __thread int last_code;
#else
static _Thread_local char last[HR_TEXT];
static _Thread_local int last_code;
#endif

int hr_fail(int code, const char *format, ...)
{
    char text[HR_TEXT]; /* what is written about may be the last sentence itself */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    memcpy(last, text, sizeof last);
    last_code = code;
    return code;
}

int hr_fail_memory(void)
{
    return hr_fail(HR_ERROR_MEMORY, "There is not enough memory; end something, or send less.");
}

/* The code of the last failure, for functions that return pointers. */
int hr_last_code(void)
{
    return last_code;
}

const char *hr_last_error(void)
{
    return last;
}

const char *hr_error_string(int code)
{
    switch (code) {
    case HR_OK: return "All is well.";
    case HR_DROPPED: return "The stream was full, and by its policy this frame was given up.";
    case HR_NONE: return "There is no command.";
    case HR_ERROR_ARGUMENT: return "An argument cannot be right.";
    case HR_ERROR_STATE: return "The function cannot be called now.";
    case HR_ERROR_SCHEMA: return "A frame or a declaration does not fit.";
    case HR_ERROR_ORDER: return "The steps of frames must increase.";
    case HR_ERROR_FULL: return "No room in the stream came free in time.";
    case HR_ERROR_CONFIG: return "An address, a key or an option is wrong.";
    case HR_ERROR_NOBODY: return "No stager answered.";
    case HR_ERROR_LOST: return "The stager has not answered for too long.";
    case HR_ERROR_STALE: return "A newer life of the simulation took the stream over.";
    case HR_ERROR_PROTOCOL: return "A peer said what cannot be understood.";
    case HR_ERROR_VERSION: return "A peer speaks another version of the protocol.";
    case HR_ERROR_STORAGE: return "The stager has no room.";
    case HR_ERROR_STAGER: return "The stager refused a request.";
    case HR_ERROR_COMMAND: return "The command does not carry what was asked for.";
    case HR_ERROR_MEMORY: return "There is no memory, or no thread or socket.";
    case HR_ERROR_KEYS: return "The stager and this program do not agree on keys.";
    default: return "This is no code of Headrace.";
    }
}

int hr_code_of(const char *name, size_t length)
{
    static const struct {
        const char *name;
        int code;
    } known[] = {
        {"StaleIncarnation", HR_ERROR_STALE}, {"SchemaError", HR_ERROR_SCHEMA},
        {"FrameOrderError", HR_ERROR_ORDER},  {"ProtocolError", HR_ERROR_PROTOCOL},
        {"CorruptData", HR_ERROR_PROTOCOL},   {"MessageTooLarge", HR_ERROR_PROTOCOL},
        {"VersionMismatch", HR_ERROR_VERSION}, {"StorageFull", HR_ERROR_STORAGE},
        {"StreamFull", HR_ERROR_FULL},        {"ConfigError", HR_ERROR_CONFIG},
        {"NobodyListening", HR_ERROR_NOBODY}, {"ConnectionLost", HR_ERROR_LOST},
        {"AuthenticationFailed", HR_ERROR_KEYS},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].name) == length && memcmp(known[i].name, name, length) == 0)
            return known[i].code;
    return HR_ERROR_STAGER;
}

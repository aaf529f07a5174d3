/* The life of a stream: made, opened, flushed, closed, freed. */
#include "internal.h"

#include <stdio.h>
#include <time.h>

int hr_new(hr_stream **out, const char *simulation)
{
    pthread_condattr_t attributes;
    if (out == NULL)
        return hr_fail(HR_ERROR_ARGUMENT, "hr_new needs a place for the stream.");
    *out = NULL;
    int code = hr_check_name(simulation, "simulation");
    if (code < 0)
        return code;
    hr_stream *s = calloc(1, sizeof *s);
    if (s == NULL)
        return hr_fail_memory();
    snprintf(s->simulation, sizeof s->simulation, "%s", simulation);
    snprintf(s->options.when_full, sizeof s->options.when_full, "block");
    s->options.capacity = 256 << 20;
    s->options.keep = 32 << 20;
    s->schema.n_ranks = 1;
    s->wanted = -1;
    s->timeout = 10.0;
    s->patience = 600.0;
    s->linger = 0.0005;
    s->last_step = s->last_put = -1;
    s->to_commit = -1;
    s->channel.every = 1;
    s->session.wake[0] = s->session.wake[1] = -1;
    bool good = pthread_mutex_init(&s->lock, NULL) == 0;
    if (good && pthread_condattr_init(&attributes) == 0) {
        good = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0 &&
               pthread_cond_init(&s->changed, &attributes) == 0;
        pthread_condattr_destroy(&attributes);
    }
    if (!good || !hr_random_hex(s->token, 16)) {
        free(s);
        return hr_fail(HR_ERROR_MEMORY, "The system has no lock or no random numbers to give.");
    }
    *out = s;
    return HR_OK;
}

/* ------------------------------------------------------------------------- opening */

static bool asked_to_stop(void *argument)
{
    hr_stream *s = argument;
    pthread_mutex_lock(&s->lock);
    bool out = s->stopping;
    pthread_mutex_unlock(&s->lock);
    return out;
}

static int connect_session(hr_stream *s)
{
    char name[HR_MAX_NAME + 32];
    char *found = hr_find_stager(s->stager, s->run_directory, s->timeout);
    if (found == NULL)
        return hr_last_code();
    s->session.address = hr_owner(found, s->simulation);
    free(found);
    snprintf(name, sizeof name, "%s/%lld", s->simulation, (long long)s->rank);
    s->session.name = hr_copy(name);
    if (s->session.address == NULL)
        return hr_last_code();
    if (s->session.name == NULL)
        return hr_fail_memory();
    s->session.wanted = s->wanted;
    s->session.timeout = s->timeout;
    s->session.stop = asked_to_stop;
    s->session.stop_argument = s;
    const char *keys = s->keys != NULL && *s->keys ? s->keys : getenv("HEADRACE_KEYS");
    if (keys != NULL && *keys) {
        int code = hr_load_keys(&s->session.keys, keys);
        if (code < 0)
            return code;
    }
    return hr_session_open(&s->session);
}

static void disconnect(hr_stream *s)
{
    hr_session_close(&s->session);
    free(s->session.address);
    free(s->session.name);
    memset(&s->session, 0, sizeof s->session);
    s->session.wake[0] = s->session.wake[1] = -1;
}

static int open_stream(hr_stream *s)
{
    hr_reply opened;
    int code = hr_io_open_stream(s, 0, 0, &opened);
    if (code < 0)
        return code;
    s->resumed.incarnation = opened.numbers[0];
    s->resumed.next_offset = opened.numbers[2];
    s->resumed.last_step = opened.numbers[3];
    s->resumed.last_time = opened.time;
    s->resumed.last_epoch = opened.numbers[4];
    s->resumed.mapped = s->session.mapped;
    s->sequence = s->acknowledged = (uint64_t)(opened.numbers[1] > 0 ? opened.numbers[1] : 0);
    s->last_step = s->resumed.last_step;
    s->last_time = s->resumed.last_time;
    s->room_mapped = s->wants_lease = s->session.mapped;
    hr_channel *c = &s->channel;
    c->simulation = s->simulation;
    c->capabilities = s->capabilities;
    c->n_capabilities = s->n_capabilities;
    c->incarnation = s->resumed.incarnation;
    if (s->resumed.next_offset > 0) {
        c->epoch = (int32_t)s->resumed.last_epoch + 1;
        s->last_put = s->resumed.last_step;
    }
    if (s->rank == 0 && s->resumed.next_offset > 0)
        code = hr_find_answered(s);
    if (code == HR_OK)
        code = hr_find_commands(s, &s->command_position);
    return code;
}

int hr_open(hr_stream *s)
{
    if (s == NULL)
        return hr_fail(HR_ERROR_ARGUMENT, "hr_open needs a stream; make one with hr_new.");
    if (s->is_open || s->is_closed)
        return hr_fail(HR_ERROR_STATE, "The stream of '%s' %s.", s->simulation,
                       s->is_closed ? "is closed; make another one" : "is open already");
    if (s->schema.n_variables == 0)
        return hr_fail(HR_ERROR_SCHEMA, "The stream of '%s' declares no variable; call hr_declare "
                                        "first.", s->simulation);
    if (s->rank >= s->schema.n_ranks)
        return hr_fail(HR_ERROR_ARGUMENT, "Rank %lld of %lld cannot be: ranks count from 0.",
                       (long long)s->rank, (long long)s->schema.n_ranks);
    int code = connect_session(s);
    if (code == HR_OK)
        code = open_stream(s);
    if (code == HR_OK)
        code = hr_io_start(s);
    if (code < 0)
        disconnect(s);
    s->is_open = code == HR_OK;
    return code;
}

int hr_get_resumed(hr_stream *s, hr_resumed *out)
{
    if (s == NULL || out == NULL)
        return hr_fail(HR_ERROR_ARGUMENT, "hr_get_resumed needs a stream and a place.");
    if (!s->is_open)
        return hr_fail(HR_ERROR_STATE, "The stream of '%s' is not open.", s->simulation);
    *out = s->resumed;
    return HR_OK;
}

/* ------------------------------------------------------------------------ flushing */

/* Wait until all is stored; wants the lock. */
static int flush(hr_stream *s, double timeout)
{
    double end = hr_monotonic() + timeout;
    hr_io_wake(s);
    while (!hr_all_stored(s)) {
        struct timespec until;
        double now = hr_monotonic(), at = end < now + 0.2 ? end : now + 0.2;
        if (s->failure)
            return hr_fail(s->failure, "%s", s->failure_text);
        if (now >= end)
            return s->problem
                       ? hr_fail(s->problem, "%s", s->problem_text)
                       : hr_fail(HR_ERROR_LOST,
                                 "Waited %.1f s for the stager to store %zu pieces of '%s'; it has "
                                 "not answered.", timeout, s->n_window, s->simulation);
        until.tv_sec = (time_t)at;
        until.tv_nsec = (long)((at - (double)until.tv_sec) * 1e9);
        pthread_cond_timedwait(&s->changed, &s->lock, &until);
    }
    return HR_OK;
}

int hr_flush(hr_stream *s, double timeout)
{
    if (s == NULL || !s->is_open || s->is_closed)
        return hr_fail(s == NULL ? HR_ERROR_ARGUMENT : HR_ERROR_STATE,
                       "hr_flush needs a stream that is open.");
    pthread_mutex_lock(&s->lock);
    int code = flush(s, timeout >= 0.0 ? timeout : s->timeout);
    pthread_mutex_unlock(&s->lock);
    return code;
}

int hr_event(hr_stream *s, const char *kind, const char *level, const char *message)
{
    if (s == NULL || !s->is_open || s->is_closed)
        return hr_fail(s == NULL ? HR_ERROR_ARGUMENT : HR_ERROR_STATE,
                       "hr_event needs a stream that is open.");
    if (kind == NULL || message == NULL || level == NULL || !hr_is_utf8(kind) ||
        !hr_is_utf8(message) ||
        (strcmp(level, "info") != 0 && strcmp(level, "warning") != 0 && strcmp(level, "error") != 0))
        return hr_fail(HR_ERROR_ARGUMENT, "An event has a kind and a message in UTF-8, and the level "
                                          "info, warning or error.");
    hr_buffer b = {0};
    const char *fields[] = {"kind", kind, "message", message, "simulation", s->simulation, "source",
                            "adapter", "level", level};
    hr_write_map(&b, 6);
    for (int i = 0; i < 10; i++)
        hr_write_text(&b, fields[i]);
    hr_write_text(&b, "stamp");
    hr_write_double(&b, hr_now());
    pthread_mutex_lock(&s->lock);
    int code = s->failure ? hr_fail(s->failure, "%s", s->failure_text)
                          : hr_append_record(s, "events", &b);
    pthread_mutex_unlock(&s->lock);
    hr_buffer_free(&b);
    return code;
}

/* ---------------------------------------------------------------------------- ending */

int hr_close(hr_stream *s, int finished)
{
    if (s == NULL)
        return hr_fail(HR_ERROR_ARGUMENT, "hr_close needs a stream.");
    if (s->is_closed || !s->is_open) {
        s->is_closed = true;
        return HR_OK;
    }
    pthread_mutex_lock(&s->lock);
    s->is_closed = true;
    if (s->open != NULL) {
        s->open->closed = true;
        hr_chunk_release(s, s->open);
        s->open = NULL;
    }
    if (finished && s->rank == 0) {
        hr_take_arrived(s);
        hr_channel_end(&s->channel, s->last_step, s->last_time, hr_now());
        hr_send_answers(s);
    }
    int code = s->failure && hr_all_stored(s) ? HR_OK : flush(s, s->timeout);
    if (code == HR_ERROR_LOST && !s->failure && !s->problem &&
        (s->channel.stopped || s->stops != NULL)) {
        /* The stream was full when the simulation was told to stop, and has stayed so. */
        s->statistics.dropped += (int64_t)(s->sequence - s->acknowledged);
        code = HR_OK;
    }
    s->finished = finished && code == HR_OK && !s->failure;
    s->stopping = true;
    hr_io_wake(s);
    pthread_mutex_unlock(&s->lock);
    if (s->thread_made)
        pthread_join(s->thread, NULL);
    s->thread_made = false;
    hr_session_close(&s->session);
    return code;
}

static void free_appends(hr_append *list)
{
    while (list != NULL) {
        hr_append *next = list->next;
        hr_buffer_free(&list->data);
        free(list->topic);
        free(list);
        list = next;
    }
}

void hr_free(hr_stream **stream)
{
    hr_stream *s = stream == NULL ? NULL : *stream;
    if (s == NULL)
        return;
    hr_close(s, 0);
    *stream = NULL;
    disconnect(s);
    hr_room_free(s);
    free_appends(s->appends);
    free_appends(s->unanswered);
    while (s->arrived != NULL) {
        hr_command *next = s->arrived->next;
        hr_command_free(s->arrived);
        s->arrived = next;
    }
    while (s->stops != NULL) {
        hr_command *next = s->stops->next;
        hr_command_free(s->stops);
        s->stops = next;
    }
    while (s->offsets != NULL) {
        hr_command_offset *next = s->offsets->next;
        free(s->offsets->id);
        free(s->offsets);
        s->offsets = next;
    }
    hr_channel_free(&s->channel);
    hr_schema_free(&s->schema);
    hr_capabilities_free(s->capabilities, s->n_capabilities);
    free(s->stager);
    free(s->run_directory);
    free(s->keys);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->changed);
    free(s);
}

int hr_get_statistics(hr_stream *s, hr_statistics *out)
{
    if (s == NULL || out == NULL)
        return hr_fail(HR_ERROR_ARGUMENT, "hr_get_statistics needs a stream and a place.");
    pthread_mutex_lock(&s->lock);
    *out = s->statistics;
    out->delivered = s->channel.delivered;
    out->repeated = s->channel.repeated;
    out->applied = s->channel.applied;
    out->refused = s->channel.refused;
    out->expired = s->channel.expired;
    pthread_mutex_unlock(&s->lock);
    return HR_OK;
}

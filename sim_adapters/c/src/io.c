/*
 * The thread behind a stream: sends what was put, keeps leases ready, brings commands.
 * The session is this thread's alone; what it shares with others is read and changed under the
 * lock, which is never held while something is sent, received or hashed.
 */
#include "internal.h"

#include <signal.h>
#include <stdio.h>

#define PING_AFTER 2.0 /* seconds of silence after which the stager is told that we live */
#define LOST_AFTER 5.0 /* seconds without a word after which the connection is made anew */

/* ---------------------------------------------------------------- wants the lock */

void hr_io_wake(hr_stream *s)
{
    s->idle = false;
    hr_session_wake(&s->session);
}

bool hr_all_stored(const hr_stream *s)
{
    for (const hr_chunk *chunk = s->chunks; chunk != NULL; chunk = chunk->next)
        if (chunk->sent != chunk->filled)
            return false;
    return s->window == NULL && s->appends == NULL && s->unanswered == NULL;
}

/* -------------------------------------------------------------- the I/O thread's */

void hr_io_fail(hr_stream *s, int code, const char *text)
{
    pthread_mutex_lock(&s->lock);
    if (!s->failure) {
        s->failure = code;
        snprintf(s->failure_text, sizeof s->failure_text, "%s", text);
    }
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void hr_io_problem(hr_stream *s, int code, const char *text)
{
    pthread_mutex_lock(&s->lock);
    s->problem = code;
    snprintf(s->problem_text, sizeof s->problem_text, "%s", text);
    pthread_mutex_unlock(&s->lock);
}

int hr_io_send(hr_stream *s, hr_buffer *head)
{
    s->spoke = hr_monotonic();
    int code = hr_session_send(&s->session, head);
    if (code < 0)
        hr_io_problem(s, code, hr_last_error());
    return code;
}

static void look_after(hr_stream *s)
{
    double now = hr_monotonic();
    pthread_mutex_lock(&s->lock);
    bool expects = s->window != NULL || s->unanswered != NULL;
    pthread_mutex_unlock(&s->lock);
    if (now - s->heard > LOST_AFTER && (expects || s->spoke > s->heard))
        hr_io_reconnect(s);
    else if (now - s->spoke > PING_AFTER) {
        hr_buffer head = {0};
        hr_say_ping(&head, ++s->session.number, 0);
        hr_io_send(s, &head);
    }
}

static void turn(hr_stream *s)
{
    hr_message message = {0};
    bool more = hr_io_send_all(s);
    pthread_mutex_lock(&s->lock);
    const hr_chunk *first = s->chunks;
    more = more || (first != NULL && first->filled > first->sent) || s->appends != NULL ||
           s->stopping;
    s->idle = !more;
    pthread_mutex_unlock(&s->lock);
    int code = hr_session_receive(&s->session, &message, more ? 0.0 : 0.5);
    pthread_mutex_lock(&s->lock);
    bool woken = !s->idle, gathers = woken && s->chunks != NULL && !s->wants_lease && !s->stopping;
    double linger = s->linger;
    s->idle = false;
    pthread_mutex_unlock(&s->lock);
    if (code == 0) {
        hr_message_free(&message);
        if (gathers && !more)
            hr_sleep(linger); /* small frames that follow closely share one message */
        look_after(s);
        return;
    }
    while (code > 0 && !s->failure) {
        s->heard = hr_monotonic();
        pthread_mutex_lock(&s->lock);
        s->problem = 0;
        pthread_mutex_unlock(&s->lock);
        hr_io_hear(s, &message);
        hr_message_free(&message);
        code = hr_session_receive(&s->session, &message, 0.0);
    }
    hr_message_free(&message);
    if (code < 0)
        hr_io_fail(s, code, hr_last_error());
    pthread_mutex_lock(&s->lock);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void say_bye(hr_stream *s)
{
    hr_message message = {0};
    hr_buffer head = {0};
    uint64_t number;
    hr_io_send_all(s);
    number = ++s->session.number;
    pthread_mutex_lock(&s->lock);
    hr_say_bye(&head, number, s->simulation, s->resumed.incarnation, s->rank, s->finished,
               s->statistics.dropped, "");
    pthread_mutex_unlock(&s->lock);
    if (hr_io_send(s, &head) < 0)
        return;
    for (double end = hr_monotonic() + 2.0; hr_monotonic() < end;) {
        hr_reply reply;
        int code = hr_session_receive(&s->session, &message, 0.2);
        if (code < 0)
            break;
        if (code == 0)
            continue;
        hr_span data = hr_message_part(&message, 0);
        bool done = hr_decode_reply(&reply, data.data, data.size) == HR_OK &&
                    reply.request == number;
        hr_message_free(&message);
        if (done)
            break;
    }
    hr_message_free(&message);
}

static void *run(void *argument)
{
    hr_stream *s = argument;
    for (;;) {
        pthread_mutex_lock(&s->lock);
        bool over = s->stopping || s->failure;
        pthread_mutex_unlock(&s->lock);
        if (over)
            break;
        turn(s);
    }
    pthread_mutex_lock(&s->lock);
    bool failed = s->failure != 0;
    pthread_mutex_unlock(&s->lock);
    if (!failed)
        say_bye(s);
    return NULL;
}

int hr_io_start(hr_stream *s)
{
    sigset_t all, before;
    s->heard = s->spoke = hr_monotonic();
    hr_io_fetch_commands(s);
    /* Signals are the simulation's affair. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&s->thread, NULL, run, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return hr_fail(HR_ERROR_MEMORY, "Cannot start a thread: %s.", strerror(error));
    s->thread_made = true;
    return HR_OK;
}

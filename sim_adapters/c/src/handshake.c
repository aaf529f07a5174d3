/* Why a stager cannot be talked to: what libzmq tells about its handshakes. */
#include "internal.h"

#include <stdio.h>
#include <zmq.h>

/* A stager that ends in the middle of a handshake breaks it off, too: once. */
#define BROKEN_OFF 3

#ifdef ZMQ_EVENT_HANDSHAKE_FAILED_AUTH

void hr_handshake_watch(hr_session *s)
{
    const char *place = "inproc://headrace-handshakes";
    const int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                       ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                       ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;
    s->shake = HR_SHAKE_OPEN;
    s->broken_off = 0;
    /* Without it, a key that is refused looks like nobody: no reason to fail. */
    if (zmq_socket_monitor(s->socket, place, events) != 0)
        return;
    s->monitor = zmq_socket(s->context, ZMQ_PAIR);
    if (s->monitor != NULL && zmq_connect(s->monitor, place) != 0)
        hr_handshake_close(s);
}

static void take(hr_session *s, int event)
{
    if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
        s->shake = HR_SHAKE_OPEN;
        s->broken_off = 0;
    } else if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)
        s->shake = HR_SHAKE_REFUSED;
    else if (event == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL)
        s->shake = HR_SHAKE_MISMATCH;
    else if (++s->broken_off >= BROKEN_OFF && s->keys.given)
        s->shake = HR_SHAKE_BROKEN;
}

void hr_handshake_look(hr_session *s)
{
    uint8_t data[512];
    int more = 1;
    size_t size = sizeof more;
    while (s->monitor != NULL && zmq_recv(s->monitor, data, sizeof data, ZMQ_DONTWAIT) >= 2) {
        uint16_t event;
        memcpy(&event, data, sizeof event);
        take(s, event);
        /* The address follows. */
        while (zmq_getsockopt(s->monitor, ZMQ_RCVMORE, &more, &size) == 0 && more)
            if (zmq_recv(s->monitor, data, sizeof data, 0) < 0)
                return;
    }
}

void hr_handshake_close(hr_session *s)
{
    if (s->monitor == NULL)
        return;
    zmq_socket_monitor(s->socket, NULL, 0);
    zmq_close(s->monitor);
    s->monitor = NULL;
}

#else

void hr_handshake_watch(hr_session *s)
{
    s->monitor = NULL;
}

void hr_handshake_look(hr_session *s)
{
    (void)s;
}

void hr_handshake_close(hr_session *s)
{
    (void)s;
}

#endif

int hr_handshake_fail(const hr_session *s)
{
    switch (s->shake) {
    case HR_SHAKE_REFUSED:
        return hr_fail(HR_ERROR_KEYS,
                       "The stager at %.300s does not let in the public key %s; put this "
                       "program's .pub file into the stager's allow-list folder and open the "
                       "stream again.", s->address, s->keys.given ? s->keys.own_public : "");
    case HR_SHAKE_MISMATCH:
        return s->keys.given
                   ? hr_fail(HR_ERROR_KEYS,
                             "The stager at %.300s has no keys, but this program does; start the "
                             "stager with keys, or leave them out here.", s->address)
                   : hr_fail(HR_ERROR_KEYS,
                             "The stager at %.300s wants keys and this program has none; set the "
                             "option 'keys', or HEADRACE_KEYS, to a folder with client.key (made "
                             "with `headrace keys`) and the stager's stager.pub.", s->address);
    case HR_SHAKE_BROKEN:
        return hr_fail(HR_ERROR_KEYS,
                       "What listens at %.300s breaks off every encrypted connection: its public "
                       "key is probably not %s; get the stager's stager.pub anew, or check the "
                       "address.", s->address, s->keys.stager);
    default:
        return HR_OK;
    }
}

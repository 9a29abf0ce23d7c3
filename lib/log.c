/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See log.h. */
#include "log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

/* A callback that causes events itself does not get those. */
static _Thread_local bool inside_callback;
static _Thread_local int cancel_state;

bool callback_begin(void)
{
	if (inside_callback)
		return false;
	inside_callback = true;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	return true;
}

void callback_end(void)
{
	pthread_setcancelstate(cancel_state, &cancel_state);
	inside_callback = false;
}

void log_line(const struct log *log, enum seg_log_level level, const char *line)
{
	int saved = errno;

	if (!log_wants(log, level) || !callback_begin())
		return;
	log->fn(log->ctx, level, line);
	callback_end();
	errno = saved;
}

void log_event(const struct log *log, enum seg_log_level level,
	       const char *format, ...)
{
	char line[256];
	int saved = errno;
	va_list args;

	if (!log_wants(log, level))
		return;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	errno = saved;
	log_line(log, level, line);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The one sink of all events: the application's callback.  Off means one
 * comparison.  Never called inside a read section.
 */
#ifndef SEG_LOG_H
#define SEG_LOG_H

#include "seg.h"

struct log {
	seg_log_fn *fn;		/* NULL: off */
	void *ctx;
	enum seg_log_level level;
};

static inline bool log_wants(const struct log *log, enum seg_log_level level)
{
	return __builtin_expect(log->fn != NULL, 0) && log->level >= level;
}

/*
 * Around a call of any callback: false means that the thread is in one
 * already, and the event is dropped.  It can't be cancelled in between: what
 * it is in the middle of would be lost.
 */
bool callback_begin(void);
void callback_end(void);

/* Gives one line of any length. */
void log_line(const struct log *log, enum seg_log_level level,
	      const char *line);

/* Formats one line; too long ones are cut. */
void log_event(const struct log *log, enum seg_log_level level,
	       const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif

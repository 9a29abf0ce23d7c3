/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * segstat: shows what a process that uses libseg publishes of itself.
 * segstat.c has the command line, segstat_read.c finds and reads a process's
 * page, segstat_show.c writes it as a table, segstat_json.c as JSON.
 */
#ifndef SEGSTAT_H
#define SEGSTAT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "json.h"
#include "published.h"
#include "seg.h"

/* ---- segstat_read.c ---- */

/* A process's page, mapped. */
struct source {
	long process;
	int fd;
	const struct published_page *page;
};

/* What it said at one time. */
struct snapshot {
	uint64_t body[PUBLISHED_WORDS];
};

/* The public structs of one record. */
struct figures {
	struct seg_budget_stats budget;
	struct seg_pool_stats pool, classes[SEG_CLASSES];
	struct seg_cache_stats cache;
};

/*
 * 0 or a negative errno: -ENOENT there is no file, -ESRCH its process has ended
 * (the file is removed), -EPERM it is somebody else's, -EPROTO it is of another
 * version, -EAGAIN it is being written for ever; and those of open() and
 * mmap().  snapshot gets what it says.
 */
int source_open(struct source *source, long process, struct snapshot *snapshot);
void source_close(struct source *source);

/* -ESRCH: the process, or its file, has gone. */
int source_read(struct source *source, struct snapshot *snapshot);

/* Calls fn for each process that publishes, in their order; its sum. */
int sources_each(int (*fn)(void *ctx, struct source *source,
			   const struct snapshot *snapshot), void *ctx);

static inline const struct published_head *
snapshot_head(const struct snapshot *s)
{
	return (const struct published_head *)s->body;
}

/* Seconds since it was written. */
double snapshot_age(const struct snapshot *s);

/* One record after the other; NULL is before the first and after the last. */
const struct published_record *
snapshot_next(const struct snapshot *s, const struct published_record *r);

/* The one with that number; NULL: there is none. */
const struct published_record *
snapshot_find(const struct snapshot *s, uint64_t id);

/* Members that the other side does not know are 0. */
void record_figures(const struct published_record *r, struct figures *ret);

/* The command's name, or ?. */
void process_name(long process, char *name, size_t bytes);

/* ---- segstat_show.c, segstat_json.c ---- */

struct frame {
	const char *line_end;
	unsigned columns, rows;		/* rows 0: any number */
};

/* older NULL: growing counters as they are; else what they grew a second. */
void show_snapshot(FILE *out, const struct frame *frame,
		   const struct snapshot *s, const struct snapshot *older);

void show_list_head(FILE *out);
void show_list_line(FILE *out, const struct snapshot *s);

/* One line; false: no memory. */
bool show_json(FILE *out, const struct snapshot *s);

#endif

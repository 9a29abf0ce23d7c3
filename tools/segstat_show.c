/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * See segstat.h: a snapshot as tables, one for each kind of object, the largest
 * object first.  A column is a member of the statistics: what its name ends in
 * tells how it is written and is left out of the heading.
 */
#include "segstat.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "stats_fields.h"

enum { NAME_WIDTH = 16, COLUMN_WIDTH = 8 };

/* The first of them is what the lines are sorted by.  "a%b": a of a and b. */
static const char *const budget_columns[] = {
	"charged_bytes", "limit_bytes", "peak_charged_bytes",
	"own_charged_bytes", "waiters", "waits_total", "charge_refusals_total",
	"reclaimed_bytes_total", "guaranteed_bytes", "borrowed_bytes",
	"deferred_bytes", "cgroup_bytes", NULL
};
static const char *const pool_columns[] = {
	"charged_bytes", "active_bytes", "slices", "unused", "regions",
	"allocations_total", "refusals_total", "decommitted_bytes",
	"mapped_bytes", "spare_regions", "deferred_bytes", "misuses_total",
	NULL
};
static const char *const cache_columns[] = {
	"weight", "max_weight", "pinned_weight", "entries",
	"hits_total%misses_total", "hits_total", "misses_total",
	"inserts_total", "evictions_total", "reclaims_total",
	"deferred_weight", "misuses_total", NULL
};

static const struct section {
	enum published_kind kind;
	const char *title;
	const char *const *columns;
	const struct json_field *fields;
} sections[] = {
	{ PUBLISHED_BUDGET, "BUDGET", budget_columns, budget_stats_fields },
	{ PUBLISHED_POOL, "POOL", pool_columns, pool_stats_fields },
	{ PUBLISHED_CACHE, "CACHE", cache_columns, cache_stats_fields },
};

/* What is being written, and how far. */
struct page {
	FILE *out;
	const struct frame *frame;
	unsigned lines;
	double seconds;		/* between the two snapshots; 0: only one */
	const struct section *section;
	unsigned shown;		/* columns that fit */
};

static bool has_suffix(const char *text, size_t length, const char *suffix)
{
	size_t n = strlen(suffix);

	return length >= n && !memcmp(text + length - n, suffix, n);
}

static uint64_t member(const struct page *p, const void *stats,
		       const char *name, size_t length)
{
	uint64_t value = 0;

	for (const struct json_field *f = p->section->fields; f->name; f++)
		if (strlen(f->name) == length && !memcmp(f->name, name, length))
			memcpy(&value, (const char *)stats + f->offset,
			       sizeof(value));
	return value;
}

/* ---- numbers ---- */

/* Three digits that count and a unit. */
static void print_scaled(char *to, size_t bytes, double value, double thousand)
{
	const char *unit = " KMGTPE";

	while (value >= 999.5 && unit[1]) {
		value /= thousand;
		unit++;
	}
	if (*unit == ' ')
		snprintf(to, bytes, "%.0f", value);
	else
		snprintf(to, bytes, "%.*f%c", value < 9.95 ? 2 : value < 99.95,
			 value, *unit);
}

static void print_number(char *to, size_t bytes, const char *name,
			 size_t length, double value)
{
	bool weighs = has_suffix(name, length, "_bytes") ||
		      has_suffix(name, length, "weight") ||
		      has_suffix(name, length, "_bytes_total");

	print_scaled(to, bytes, value, weighs ? 1024 : 1000);
}

static double growth(const struct page *p, const char *name, size_t length,
		     const void *now, const void *before)
{
	uint64_t value = member(p, now, name, length);

	if (!p->seconds || !has_suffix(name, length, "_total"))
		return (double)value;
	return (double)(int64_t)(value - member(p, before, name, length)) /
	       p->seconds;
}

static void print_cell(const struct page *p, char *to, size_t bytes,
		       const char *column, const void *now, const void *before)
{
	size_t length = strcspn(column, "%");
	double value = growth(p, column, length, now, before);
	const char *rest = column + length;
	double all;

	if (!*rest) {
		print_number(to, bytes, column, length, value);
		return;
	}
	all = value + growth(p, rest + 1, strlen(rest + 1), now, before);
	if (all > 0)
		snprintf(to, bytes, "%.1f%%", 100 * value / all);
	else
		snprintf(to, bytes, "-");
}

/* ---- lines ---- */

static bool begin_line(struct page *p)
{
	if (p->frame->rows && p->lines >= p->frame->rows)
		return false;
	p->lines++;
	return true;
}

static void end_line(const struct page *p)
{
	fputs(p->frame->line_end, p->out);
}

/* Names and the like are the program's: nothing in them may control a
 * terminal.  How many were written. */
static int print_plain(const struct page *p, const char *text)
{
	int width = 0;

	for (; *text && width < NAME_WIDTH; text++, width++)
		putc(*text < 0x20 || *text > 0x7e ? '?' : *text, p->out);
	return width;
}

static void print_name(const struct page *p, const char *name)
{
	int width = print_plain(p, name);

	fprintf(p->out, "%*s", NAME_WIDTH - width, "");
}

static void make_heading(const struct page *p, const char *column, char *to,
			 size_t bytes)
{
	size_t length = strcspn(column, "%");
	bool total = has_suffix(column, length, "_total");
	const char *end = total && p->seconds ? "/s" : "";

	if (column[length])
		end = "%";
	length -= total ? strlen("_total") : 0;
	if (has_suffix(column, length, "_bytes"))
		length -= strlen("_bytes");
	snprintf(to, bytes, "%.*s%s", (int)length, column, end);
}

static int width_of(const struct page *p, unsigned i)
{
	char heading[64];
	int width;

	make_heading(p, p->section->columns[i], heading, sizeof(heading));
	width = (int)strlen(heading) + 1;
	return width > COLUMN_WIDTH ? width : COLUMN_WIDTH;
}

/* As many as the terminal is wide, and at least one. */
static unsigned columns_that_fit(const struct page *p)
{
	unsigned width = NAME_WIDTH;
	unsigned n = 0;

	while (p->section->columns[n]) {
		width += (unsigned)width_of(p, n);
		if (n && width > p->frame->columns)
			break;
		n++;
	}
	return n;
}

static void show_headings(struct page *p)
{
	char heading[64];

	if (!begin_line(p))
		return;
	print_name(p, p->section->title);
	for (unsigned i = 0; i < p->shown; i++) {
		make_heading(p, p->section->columns[i], heading,
			     sizeof(heading));
		fprintf(p->out, "%*s", width_of(p, i), heading);
	}
	end_line(p);
}

static void show_line(struct page *p, const char *name, const void *now,
		      const void *before)
{
	char cell[32];

	if (!begin_line(p))
		return;
	print_name(p, name);
	for (unsigned i = 0; i < p->shown; i++) {
		print_cell(p, cell, sizeof(cell), p->section->columns[i], now,
			   before);
		fprintf(p->out, "%*s", width_of(p, i), cell);
	}
	end_line(p);
}

static void show_classes(struct page *p, const struct figures *now,
			 const struct figures *before)
{
	char name[NAME_WIDTH + 1];

	for (int c = 0; c < SEG_CLASSES; c++) {
		if (!now->classes[c].allocations_total)
			continue;
		snprintf(name, sizeof(name), "%5d KiB", 4 << c);
		show_line(p, name, &now->classes[c], &before->classes[c]);
	}
}

static const void *of_kind(const struct figures *f, enum published_kind kind)
{
	if (kind == PUBLISHED_BUDGET)
		return &f->budget;
	if (kind == PUBLISHED_POOL)
		return &f->pool;
	return &f->cache;
}

/* What came since was 0 before. */
static void show_record(struct page *p, const struct published_record *r,
			const struct snapshot *older)
{
	const struct published_record *then =
		older ? snapshot_find(older, r->id) : NULL;
	struct figures now, before = { .budget.size = 0 };

	record_figures(r, &now);
	if (then && then->kind == r->kind)
		record_figures(then, &before);
	show_line(p, r->name, of_kind(&now, r->kind),
		  of_kind(&before, r->kind));
	if (r->kind == PUBLISHED_POOL)
		show_classes(p, &now, &before);
}

/* ---- the order ---- */

struct sorted {
	const struct published_record *record;
	uint64_t key;
};

static int compare(const void *a, const void *b)
{
	const struct sorted *x = a, *y = b;

	if (x->key != y->key)
		return x->key < y->key ? 1 : -1;
	return (x->record->id > y->record->id) -
	       (x->record->id < y->record->id);
}

/* The records of the section, sorted; the caller frees them. */
static struct sorted *sort(const struct page *p, const struct snapshot *s,
			   size_t *ret_count)
{
	struct sorted *all = calloc(snapshot_head(s)->records + 1,
				    sizeof(*all));
	const char *key = p->section->columns[0];
	const struct published_record *r = NULL;
	struct figures f;
	size_t n = 0;

	while (all && (r = snapshot_next(s, r)) != NULL) {
		if (r->kind != p->section->kind)
			continue;
		record_figures(r, &f);
		all[n].record = r;
		all[n++].key = member(p, of_kind(&f, r->kind), key,
				      strlen(key));
	}
	if (n)
		qsort(all, n, sizeof(*all), compare);
	*ret_count = n;
	return all;
}

static void show_section(struct page *p, const struct snapshot *s,
			 const struct snapshot *older)
{
	size_t count;
	struct sorted *all = sort(p, s, &count);

	if (count) {
		if (begin_line(p))
			end_line(p);
		p->shown = columns_that_fit(p);
		show_headings(p);
	}
	for (size_t i = 0; i < count; i++)
		show_record(p, all[i].record, older);
	free(all);
}

void show_snapshot(FILE *out, const struct frame *frame,
		   const struct snapshot *s, const struct snapshot *older)
{
	const struct published_head *head = snapshot_head(s);
	struct page p = { .out = out, .frame = frame };
	char command[64];

	if (older)
		p.seconds = (double)(head->written_ns -
				     snapshot_head(older)->written_ns) / 1e9;
	process_name((long)head->process, command, NAME_WIDTH);
	begin_line(&p);
	fprintf(out, "%" PRIu64 " ", head->process);
	print_name(&p, command);
	fputs(" libseg ", out);
	print_plain(&p, head->version);
	fprintf(out, ", %.1f s old", snapshot_age(s));
	if (head->omitted)
		fprintf(out, ", %" PRIu64 " more", head->omitted);
	end_line(&p);
	for (size_t i = 0; i < sizeof(sections) / sizeof(*sections); i++) {
		p.section = &sections[i];
		show_section(&p, s, older);
	}
}

/* ---- the list of processes ---- */

void show_list_head(FILE *out)
{
	fprintf(out, "%8s %-*s %8s %8s %5s %6s\n", "PROCESS", NAME_WIDTH,
		"COMMAND", "charged", "limit", "pools", "caches");
}

/* Children are part of their roots. */
void show_list_line(FILE *out, const struct snapshot *s)
{
	const struct frame frame = { .line_end = "\n" };
	struct page p = { .out = out, .frame = &frame };
	uint64_t charged = 0, limit = 0, count[PUBLISHED_CACHE + 1] = { 0 };
	const struct published_record *r = NULL;
	char command[64], cells[2][32];
	struct figures f;

	while ((r = snapshot_next(s, r)) != NULL) {
		record_figures(r, &f);
		charged += r->budget ? 0 : f.budget.charged_bytes;
		limit += r->budget ? 0 : f.budget.limit_bytes;
		if (r->kind <= PUBLISHED_CACHE)
			count[r->kind]++;
	}
	process_name((long)snapshot_head(s)->process, command, sizeof(command));
	print_scaled(cells[0], sizeof(cells[0]), (double)charged, 1024);
	print_scaled(cells[1], sizeof(cells[1]), (double)limit, 1024);
	fprintf(out, "%8" PRIu64 " ", snapshot_head(s)->process);
	print_name(&p, command);
	fprintf(out, " %8s %8s %5" PRIu64 " %6" PRIu64, cells[0], cells[1],
		count[PUBLISHED_POOL], count[PUBLISHED_CACHE]);
	end_line(&p);
}

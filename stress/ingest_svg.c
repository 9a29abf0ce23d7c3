/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The picture: bytes over time, as one SVG file without anything around it. */
#include <stdio.h>

#include "ingest.h"
#include "ingest_timeline.h"

#define WIDTH 1100
#define HEIGHT 520
#define LEFT 70
#define RIGHT 20
#define TOP 112
#define BOTTOM 50
#define PLOT_WIDTH (WIDTH - LEFT - RIGHT)
#define PLOT_HEIGHT (HEIGHT - TOP - BOTTOM)
#define MIB (1024.0 * 1024.0)
#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)

#define ACTIVE "fill='#b9dfb9'"
#define CACHES "fill='#5aa0a8'"
#define PINNED "stroke='#7a1fa2' stroke-width='1.5'"
#define CHARGED "stroke='#f5a623' stroke-width='5' stroke-linejoin='round'"
#define MAPPED "stroke='#1c4fa8' stroke-width='1.3'"
#define LIMIT "stroke='#444' stroke-width='1.5' stroke-dasharray='7 4'"
#define BEFORE "stroke='#d03030' stroke-width='3'"
#define BEFORE_ACTIVE "stroke='#d03030' stroke-width='1.2' " \
	"stroke-dasharray='4 2'"

static const char svg_head[] =
	"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 "
	STRING(WIDTH) " " STRING(HEIGHT) "' font-family='sans-serif' "
	"font-size='12'>\n<rect width='100%' height='100%' fill='white'/>\n";

struct plot {
	FILE *file;
	double end_ms;
	double top;		/* bytes */
};

typedef uint64_t value_fn(const struct sample *sample);

static uint64_t mapped_of(const struct sample *sample)
{
	return sample->mapped;
}

static uint64_t charged_of(const struct sample *sample)
{
	return sample->charged;
}

static uint64_t active_of(const struct sample *sample)
{
	return sample->active;
}

static uint64_t caches_of(const struct sample *sample)
{
	return sample->caches;
}

static uint64_t pinned_of(const struct sample *sample)
{
	return sample->pinned;
}

static double x_of(const struct plot *plot, double ms)
{
	return LEFT + ms / plot->end_ms * PLOT_WIDTH;
}

static double y_of(const struct plot *plot, double bytes)
{
	return TOP + PLOT_HEIGHT - bytes / plot->top * PLOT_HEIGHT;
}

/* Samples that share a pixel are drawn as its lowest and highest value. */
static size_t next_pixel(const struct plot *plot, const struct timeline *t,
			 size_t i, value_fn *value, uint64_t *ret_low,
			 uint64_t *ret_high)
{
	int pixel = (int)x_of(plot, t->samples[i].ms);

	*ret_low = *ret_high = value(&t->samples[i]);
	for (i++; i < t->count; i++) {
		uint64_t v = value(&t->samples[i]);

		if ((int)x_of(plot, t->samples[i].ms) != pixel)
			break;
		*ret_low = v < *ret_low ? v : *ret_low;
		*ret_high = v > *ret_high ? v : *ret_high;
	}
	return i;
}

static void draw_points(const struct plot *plot, const struct timeline *t,
			value_fn *value)
{
	uint64_t low, high;
	size_t i = 0;

	while (i < t->count) {
		double x = x_of(plot, t->samples[i].ms);

		i = next_pixel(plot, t, i, value, &low, &high);
		fprintf(plot->file, "%.1f,%.1f ", x, y_of(plot, (double)low));
		if (high != low)
			fprintf(plot->file, "%.1f,%.1f ", x,
				y_of(plot, (double)high));
	}
}

static void draw_line(const struct plot *plot, const struct timeline *t,
		      value_fn *value, const char *style)
{
	fprintf(plot->file, "<polyline fill='none' %s points='", style);
	draw_points(plot, t, value);
	fprintf(plot->file, "'/>\n");
}

static void draw_area(const struct plot *plot, const struct timeline *t,
		      value_fn *value, const char *style)
{
	double last = t->samples[t->count - 1].ms;

	fprintf(plot->file, "<polygon %s points='%.1f,%d ", style,
		x_of(plot, t->samples[0].ms), TOP + PLOT_HEIGHT);
	draw_points(plot, t, value);
	fprintf(plot->file, "%.1f,%d'/>\n", x_of(plot, last),
		TOP + PLOT_HEIGHT);
}

static void draw_level(const struct plot *plot, double bytes,
		       const char *style)
{
	fprintf(plot->file, "<line x1='%d' x2='%d' y1='%.1f' y2='%.1f' %s/>\n",
		LEFT, WIDTH - RIGHT, y_of(plot, bytes), y_of(plot, bytes),
		style);
}

/* Powers of two from 1/4 MiB on, at most eight of them. */
static double bytes_step(double top)
{
	double step = MIB / 4;

	while (top / step > 8)
		step *= 2;
	return step;
}

/* 1, 2, 5, 10 and so on, at most ten; whole seconds where there are some. */
static double ms_step(double end_ms)
{
	double unit = end_ms < 2000 ? 100 : 1000;

	for (;; unit *= 10) {
		if (end_ms / unit <= 10)
			return unit;
		if (end_ms / unit <= 20)
			return 2 * unit;
		if (end_ms / unit <= 50)
			return 5 * unit;
	}
}

static void draw_scales(const struct plot *plot)
{
	double bytes, ms;

	for (bytes = 0; bytes <= plot->top; bytes += bytes_step(plot->top)) {
		draw_level(plot, bytes, "stroke='#ddd'");
		fprintf(plot->file, "<text x='%d' y='%.1f' "
			"text-anchor='end'>%g</text>\n", LEFT - 6,
			y_of(plot, bytes) + 4, bytes / MIB);
	}
	for (ms = 0; ms <= plot->end_ms; ms += ms_step(plot->end_ms))
		fprintf(plot->file, "<text x='%.1f' y='%d' "
			"text-anchor='middle'>%g s</text>\n",
			x_of(plot, ms), TOP + PLOT_HEIGHT + 18, ms / 1000);
	fprintf(plot->file, "<text x='%d' y='%d' text-anchor='end'>MiB"
		"</text>\n", LEFT - 6, TOP - 8);
}

/* Text that ends at the place where it would not fit behind it. */
static void draw_label(const struct plot *plot, double x, double y,
		       const char *style, const char *text)
{
	bool fits = x < WIDTH - RIGHT - 320;

	fprintf(plot->file, "<text x='%.1f' y='%.1f' text-anchor='%s' %s>%s"
		"</text>\n", fits ? x + 6 : x - 6, y, fits ? "start" : "end",
		style, text);
}

static void draw_mark(const struct plot *plot, double ms)
{
	double x = x_of(plot, ms);

	fprintf(plot->file, "<line x1='%.1f' x2='%.1f' y1='%d' y2='%d' "
		"stroke='#888' stroke-dasharray='2 3'/>\n", x, x, TOP - 14,
		TOP + PLOT_HEIGHT);
	draw_label(plot, x, TOP - 5, "fill='#555'", "job done");
}

/* The other run, and where it ends: it may be much shorter. */
static void draw_overlay(const struct plot *plot, const struct timeline *t)
{
	const struct sample *last = &t->samples[t->count - 1];
	double x = x_of(plot, last->ms);
	double y = y_of(plot, (double)last->mapped);
	char text[160];

	snprintf(text, sizeof(text), "the old way, stopped after %.0f s: "
		 "evicted %llu, %.0f MiB still mapped", last->ms / 1000,
		 (unsigned long long)last->evicted,
		 (double)last->mapped / MIB);
	draw_line(plot, t, active_of, BEFORE_ACTIVE);
	draw_line(plot, t, mapped_of, BEFORE);
	fprintf(plot->file, "<circle cx='%.1f' cy='%.1f' r='4' "
		"fill='#d03030'/>\n", x, y);
	draw_label(plot, x, y - 8, "fill='#d03030'", text);
}

struct key {
	bool area;
	const char *style;
	const char *text;
	int x, y;
};

/* As it is drawn: an area or a line. */
static void draw_key(const struct plot *plot, const struct key *key)
{
	if (key->area)
		fprintf(plot->file, "<rect x='%d' y='%d' width='26' "
			"height='10' %s/>", key->x, key->y - 9, key->style);
	else
		fprintf(plot->file, "<line x1='%d' x2='%d' y1='%d' y2='%d' "
			"%s/>", key->x, key->x + 26, key->y - 4, key->y - 4,
			key->style);
	fprintf(plot->file, "<text x='%d' y='%d'>%s</text>\n", key->x + 32,
		key->y, key->text);
}

static void draw_keys(const struct plot *plot, const struct sample *last,
		      bool overlay)
{
	char limit[64], caches[96];
	const struct key keys[] = {
		{ true, ACTIVE, "active (handed out)", LEFT, 49 },
		{ true, CACHES, caches, LEFT + 165, 49 },
		{ false, PINNED, "pinned", LEFT + 500, 49 },
		{ false, CHARGED, "charged to the budget", LEFT, 71 },
		{ false, MAPPED, "mapped", LEFT + 180, 71 },
		{ false, LIMIT, limit, LEFT + 275, 71 },
		{ false, BEFORE, "mapped in the old way: all at the start",
		  LEFT + 430, 71 },
		{ false, BEFORE_ACTIVE, "active in the old way", LEFT + 730,
		  71 },
	};
	size_t i, count = sizeof(keys) / sizeof(keys[0]);

	snprintf(limit, sizeof(limit), "limit, %g MiB",
		 (double)last->limit / MIB);
	snprintf(caches, sizeof(caches), "of this in the caches (pages "
		 "evicted: %llu)", (unsigned long long)last->evicted);
	for (i = 0; i < (overlay ? count : count - 2); i++)
		draw_key(plot, &keys[i]);
}

static void draw_title(const struct plot *plot, struct job *job)
{
	const struct options *o = job->options;

	fprintf(plot->file, "<text x='%d' y='24' font-size='15'>ingest: "
		"%llu bytes, passes: %llu, budget %g MiB, %u writers, "
		"%u readers, memory from %s</text>\n", LEFT,
		(unsigned long long)job->input.bytes,
		(unsigned long long)tally_get(&job->tally.passes),
		(double)o->budget_bytes / MIB, o->writers, o->readers,
		job->mem->ops->name);
}

static double max_of(double a, double b)
{
	return a > b ? a : b;
}

static void scale(struct plot *plot, const struct timeline *t)
{
	const struct sample *last = &t->samples[t->count - 1];

	plot->end_ms = max_of(plot->end_ms, max_of(last->ms, 100));
	plot->top = max_of(plot->top, 1.1 * (double)last->limit);
}

static void draw(const struct plot *plot, const struct timeline *t,
		 const struct timeline *overlay)
{
	const struct sample *last = &t->samples[t->count - 1];

	draw_title(plot, t->job);
	draw_scales(plot);
	draw_area(plot, t, active_of, ACTIVE);
	draw_area(plot, t, caches_of, CACHES);
	/* often equal: thinner lines on broader ones show them all */
	draw_line(plot, t, charged_of, CHARGED);
	if (overlay->count)
		draw_overlay(plot, overlay);
	draw_line(plot, t, mapped_of, MAPPED);
	draw_line(plot, t, pinned_of, PINNED);
	draw_level(plot, (double)last->limit, LIMIT);
	if (t->job_end_ms > 0)
		draw_mark(plot, t->job_end_ms);
	draw_keys(plot, last, overlay->count > 0);
}

int svg_open(const char *name, FILE **ret)
{
	return stream_open(name, svg_head, ret);
}

int svg_write(const struct timeline *timeline, const struct timeline *overlay,
	      FILE *file)
{
	struct plot plot = { .file = file };

	if (timeline->count) {
		scale(&plot, timeline);
		if (overlay->count)
			scale(&plot, overlay);
		draw(&plot, timeline, overlay);
	}
	fprintf(file, "</svg>\n");
	return stream_close(file);
}

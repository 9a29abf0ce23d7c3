/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See segstat.h: the command line, and the loop. */
#define _GNU_SOURCE
#include "segstat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { BAD_USAGE = 2 };

struct options {
	bool once, json;
	double seconds;
	long process;		/* 0: list them all */
};

static const char usage[] =
	"usage: segstat [-1j] [-i seconds] [process]\n"
	"Shows the pools, budgets and caches of a process that publishes them\n"
	"(SEG_CONF=publish:1); with no process, lists those that do.\n"
	"  -1  once, with sums and not rates    -i  how often, 0.1 to 3600\n"
	"  -j  JSON, a line each time           -h  this help    -V  version\n";

/* ---- one process ---- */

static struct frame frame_of(bool terminal)
{
	struct frame frame = { .line_end = "\n", .columns = 80 };
	const char *columns = getenv("COLUMNS");
	struct winsize size;

	if (columns && atoi(columns) > 0)
		frame.columns = (unsigned)atoi(columns);
	if (!terminal)
		return frame;
	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col) {
		frame.columns = size.ws_col;
		frame.rows = size.ws_row > 1 ? size.ws_row - 1u : 1;
	}
	frame.line_end = "\033[K\n";
	return frame;
}

/* On a terminal each goes over the one before. */
static void show_table(const struct snapshot *now, const struct snapshot *older,
		       bool terminal)
{
	struct frame frame = frame_of(terminal);

	if (terminal)
		fputs("\033[H", stdout);
	show_snapshot(stdout, &frame, now, older);
	if (terminal)
		fputs("\033[J", stdout);
}

static void wait_for(double seconds)
{
	struct timespec time = { .tv_sec = (time_t)seconds };

	time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
	nanosleep(&time, NULL);
}

static bool is_older(const struct snapshot *a, const struct snapshot *b)
{
	return snapshot_head(a)->writes_total < snapshot_head(b)->writes_total;
}

/* Three snapshots take turns: the one being read, the last, the one before. */
static int follow(struct source *source, struct snapshot *now,
		  const struct options *o)
{
	static struct snapshot more[2];
	struct snapshot *last = &more[0], *before = &more[1];
	bool terminal = !o->json && isatty(STDOUT_FILENO);
	bool two = false;
	int ret = 0;

	if (terminal)
		fputs("\033[2J", stdout);
	while (!ret && !ferror(stdout)) {
		struct snapshot *read = before;

		if (o->json)
			show_json(stdout, now);
		else
			show_table(now, two ? last : NULL, terminal);
		if (fflush(stdout))
			break;
		wait_for(o->seconds);
		ret = source_read(source, read);
		if (ret || !is_older(now, read))
			continue;
		before = last;
		last = now;
		now = read;
		two = true;
	}
	return ret;
}

static const char *reason_of(int error)
{
	switch (-error) {
	case ENOENT:
		return "publishes nothing (SEG_CONF=publish:1), or there is no "
		       "such process";
	case ESRCH: return "has ended, or publishes no more";
	case EPROTO: return "publishes for another version";
	case EAGAIN: return "is stopped while it writes";
	default: return strerror(-error);
	}
}

static int show_process(const struct options *o)
{
	static struct snapshot snapshot;
	struct source source;
	int ret = source_open(&source, o->process, &snapshot);

	if (!ret && o->once) {
		if (o->json)
			show_json(stdout, &snapshot);
		else
			show_table(&snapshot, NULL, false);
	} else if (!ret) {
		ret = follow(&source, &snapshot, o);
	}
	if (ret)
		fprintf(stderr, "segstat: process %ld %s\n", o->process,
			reason_of(ret));
	source_close(&source);
	return ret ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- all ---- */

static int list_process(void *ctx, struct source *source,
			const struct snapshot *snapshot)
{
	const struct options *o = ctx;

	(void)source;
	if (o->json)
		show_json(stdout, snapshot);
	else
		show_list_line(stdout, snapshot);
	return 1;
}

static int list_all(struct options *o)
{
	if (!o->json)
		show_list_head(stdout);
	if (!sources_each(list_process, o)) {
		fputs("segstat: no process publishes (SEG_CONF=publish:1)\n",
		      stderr);
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}

/* ---- the command line ---- */

static bool parse_number(const char *text, double least, double most,
			 double *ret_value)
{
	char *end;

	*ret_value = strtod(text, &end);
	if (end != text && !*end && *ret_value >= least && *ret_value <= most)
		return true;
	fprintf(stderr, "segstat: not a good value: %s\n", text);
	return false;
}

/* False: nothing else is to be done. */
static bool parse(int argc, char **argv, struct options *o, int *ret_status)
{
	double number = 0;
	bool good = true;
	int c;

	*ret_status = BAD_USAGE;
	while (good && (c = getopt(argc, argv, "1ji:hV")) != -1) {
		if (c == 'h' || c == 'V') {
			fputs(c == 'h' ? usage : PACKAGE_STRING "\n", stdout);
			*ret_status = EXIT_SUCCESS;
			return false;
		}
		o->once |= c == '1';
		o->json |= c == 'j';
		good = c != '?' &&
		       (c != 'i' || parse_number(optarg, 0.1, 3600,
						 &o->seconds));
	}
	if (good && optind < argc)
		good = parse_number(argv[optind], 1, INT32_MAX, &number);
	o->process = (long)number;
	good = good && argc - optind <= 1;
	if (!good)
		fputs(usage, stderr);
	return good;
}

int main(int argc, char **argv)
{
	struct options o = { .seconds = 1 };
	int status;

	if (parse(argc, argv, &o, &status))
		status = o.process ? show_process(&o) : list_all(&o);
	if (fflush(stdout) || ferror(stdout)) {
		perror("segstat: stdout");
		status = EXIT_FAILURE;
	}
	return status;
}

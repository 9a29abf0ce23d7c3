/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs workloads on one peer, for the driver segbench.py, which starts it once
 * for each peer and round.  Output: lines of "workload class threads value".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "segbench_work.h"

struct settings settings = {
	.run_ns = 1.5e6,
	.bytes = (uint64_t)1 << 30,
	.patience_ms = 15000,
};
int cores;

static const char *const kinds[] = {
	"4K", "8K", "16K", "32K", "64K", "128K", "256K", "mixed"
};

static const struct workload {
	const char *name;
	void (*run)(void);
} workloads[] = {
	{ "pair", pair_workload },
	{ "batch64", batch_workload },
	{ "batch1024", long_batch_workload },
	{ "ws", working_set_workload },
	{ "handover", handover_workload },
	{ "release", release_workload },
	{ "tail", tail_workload },
	{ "grow", grow_workload },
	{ "pace", pace_workload },
	{ "resident", resident_workload },
	{ "convert", convert_workload },
	{ "aligned", aligned_workload },
};

_Noreturn void die(const char *what)
{
	fprintf(stderr, "segbench_work: %s: %s: %s\n",
		peer ? peer->name : "start", what, strerror(errno));
	exit(1);
}

double now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

bool wanted(int kind, int threads)
{
	return (!settings.only_class ||
		!strcmp(settings.only_class, kinds[kind])) &&
	       (!settings.only_threads || settings.only_threads == threads);
}

void print_figure(const char *workload, int kind, int threads, double value)
{
	printf("%s %s %d %.6g\n", workload, kinds[kind], threads, value);
	fflush(stdout);
}

static double number(const char *text, double least)
{
	char *end;
	double value = strtod(text, &end);

	if (!*text || *end || !(value >= least && value <= 1e12)) {
		fprintf(stderr, "segbench_work: bad number '%s'\n", text);
		exit(2);
	}
	return value;
}

_Noreturn static void usage(void)
{
	fprintf(stderr, "usage: segbench_work --peer NAME [--ms MS] [--cpu]"
		" [--chunks N]\n\t[--mib MIB] [--patience-ms MS]"
		" [--class CLASS] [--threads N] WORKLOAD...\nworkloads:");
	for (size_t i = 0; i < sizeof(workloads) / sizeof(*workloads); i++)
		fprintf(stderr, " %s", workloads[i].name);
	fprintf(stderr, "\n");
	exit(2);
}

static void (*find_workload(const char *name))(void)
{
	for (size_t i = 0; i < sizeof(workloads) / sizeof(*workloads); i++)
		if (!strcmp(workloads[i].name, name))
			return workloads[i].run;
	fprintf(stderr, "segbench_work: no workload '%s'\n", name);
	usage();
}

static void set_option(int option, const char *text)
{
	switch (option) {
	case 'p':
		peer = find_peer(text);
		if (!peer) {
			fprintf(stderr, "segbench_work: no peer '%s'\n", text);
			usage();
		}
		break;
	case 'm': settings.run_ns = number(text, 1e-3) * 1e6; break;
	case 'n': settings.chunks = (uint64_t)number(text, 1); break;
	case 'b': settings.bytes = (uint64_t)number(text, 1) << 20; break;
	case 'w': settings.patience_ms = number(text, 1); break;
	case 'u': settings.cpu = true; break;
	case 'c': settings.only_class = text; break;
	case 't': settings.only_threads = (int)number(text, 1); break;
	default: usage();
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "peer", required_argument, NULL, 'p' },
		{ "ms", required_argument, NULL, 'm' },
		{ "chunks", required_argument, NULL, 'n' },
		{ "mib", required_argument, NULL, 'b' },
		{ "patience-ms", required_argument, NULL, 'w' },
		{ "cpu", no_argument, NULL, 'u' },
		{ "class", required_argument, NULL, 'c' },
		{ "threads", required_argument, NULL, 't' },
		{ NULL, 0, NULL, 0 }
	};
	cpu_set_t cpus;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		set_option(option, optarg);
	if (!peer || optind == argc)
		usage();
	if (sched_getaffinity(0, sizeof(cpus), &cpus))
		die("sched_getaffinity");
	cores = CPU_COUNT(&cpus);
	for (int i = optind; i < argc; i++)
		if (find_workload(argv[i]) == convert_workload)
			limit_bytes = settings.bytes / 50 * 51 /
				      PAGE_BYTES * PAGE_BYTES;
	if (peer->start)
		peer->start();
	for (int i = optind; i < argc; i++)
		find_workload(argv[i])();
	return 0;
}

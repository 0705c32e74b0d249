# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_livedata_fuse_global_optspecs
    string join \n h/help V/version
end

function __fish_livedata_fuse_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_livedata_fuse_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_livedata_fuse_using_subcommand
    set -l cmd (__fish_livedata_fuse_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c livedata-fuse -n "__fish_livedata_fuse_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c livedata-fuse -n "__fish_livedata_fuse_needs_command" -s V -l version -d 'Print version'
complete -c livedata-fuse -n "__fish_livedata_fuse_needs_command" -f -a "mount" -d 'Mount, and go to the background once every file is there'
complete -c livedata-fuse -n "__fish_livedata_fuse_needs_command" -f -a "umount" -d 'Unmount'
complete -c livedata-fuse -n "__fish_livedata_fuse_needs_command" -f -a "check" -d 'Parse a configuration and print what it means; contacts nobody'
complete -c livedata-fuse -n "__fish_livedata_fuse_needs_command" -f -a "status" -d 'Show how a mount is, or wait for it: exit 0 healthy, 1 degraded, 2 not a mount'
complete -c livedata-fuse -n "__fish_livedata_fuse_using_subcommand mount" -l wait -d 'How long the first load may take, as 15s, 500ms or 1m; after that the mount is ready with what it has, unless a required node is missing' -r
complete -c livedata-fuse -n "__fish_livedata_fuse_using_subcommand mount" -s o -d 'Mount options: allow_other, noexec, fsname=NAME, and what fstab carries along' -r
complete -c livedata-fuse -n "__fish_livedata_fuse_using_subcommand mount" -s f -l foreground -d 'Stay in the foreground, logging to stderr (for systemd: Type=notify)'
complete -c livedata-fuse -n "__fish_livedata_fuse_using_subcommand mount" -l strict -d 'Take every warning about the configuration for an error'
complete -c livedata-fuse -n "__fish_livedata_fuse_using_subcommand mount" -l debug -d 'Log more; RUST_LOG chooses exactly'
complete -c livedata-fuse -n "__fish_livedata_fuse_using_subcommand mount" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c livedata-fuse -n "__fish_livedata_fuse_using_subcommand umount" -s z -l lazy -d 'Detach it even while files are open; they stay readable until they are closed'
complete -c livedata-fuse -n "__fish_livedata_fuse_using_subcommand umount" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c livedata-fuse -n "__fish_livedata_fuse_using_subcommand check" -l json -d 'Print JSON'
complete -c livedata-fuse -n "__fish_livedata_fuse_using_subcommand check" -l strict -d 'Exit 1 if there is anything to warn about'
complete -c livedata-fuse -n "__fish_livedata_fuse_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c livedata-fuse -n "__fish_livedata_fuse_using_subcommand status" -l wait-for -d 'Print nothing and wait until the file of the node shows this version of its znode or a later one, or, without a version, until it is live: exit 0, or 1 when the time has run out, 2 where there is no mount or no such node' -r
complete -c livedata-fuse -n "__fish_livedata_fuse_using_subcommand status" -l timeout -d 'How long to wait, as 30s, 500ms or 1m' -r
complete -c livedata-fuse -n "__fish_livedata_fuse_using_subcommand status" -l json -d 'Print JSON: everything there is'
complete -c livedata-fuse -n "__fish_livedata_fuse_using_subcommand status" -l all -d 'Show all nodes, and not only the first of many'
complete -c livedata-fuse -n "__fish_livedata_fuse_using_subcommand status" -l wait-fresh -d 'Likewise, until every node is live and current'
complete -c livedata-fuse -n "__fish_livedata_fuse_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'

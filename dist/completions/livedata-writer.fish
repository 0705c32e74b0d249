complete -c livedata-writer -l dry-run -d 'Show the difference and stop'
complete -c livedata-writer -l debug -d 'Log what happens in detail'
complete -c livedata-writer -s h -l help -d 'Print help (see more with \'--help\')'
complete -c livedata-writer -s V -l version -d 'Print version'
